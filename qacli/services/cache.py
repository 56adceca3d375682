"""Reuse of stored answers for `qa ask --reuse`."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from qacli.domain import Question
from qacli.errors import (
    UnfitAnswer,
)

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store


def find_cached_answer(
    store: "Store",
    ask: Question,
    *,
    since: datetime | None = None,
    check: Callable[[str], None] | None = None,
) -> "QuestionAnswer | None":
    """The newest answer that is kept for the very same question, so that it need not be asked.

    Args:
        store: The history.
        ask: The question; see `Store.same` for what is the same.
        since: Only if it was asked then or later.
        check: Raises UnfitAnswer for an answer that is not what was asked for.
    """
    found = store.find_cached(ask)
    if found is None or not found.answer or (since is not None and found.created_at < since):
        return None
    try:
        if check is not None:
            check(found.answer)
    except UnfitAnswer:
        return None
    return found
