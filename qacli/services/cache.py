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
    question: Question,
    *,
    since: datetime | None = None,
    check: Callable[[str], None] | None = None,
) -> "QuestionAnswer | None":
    """Return the newest record with an answer to the same question, so that it is not asked again.

    Args:
        store: The history.
        question: The question; `Store.find_cached` defines which questions are the same.
        since: Only a record asked at this time or later.
        check: Raises UnfitAnswer for an answer that does not fit the schema.
    """
    record = store.find_cached(question)
    if record is None or not record.answer or (since is not None and record.created_at < since):
        return None
    try:
        if check is not None:
            check(record.answer)
    except UnfitAnswer:
        return None
    return record
