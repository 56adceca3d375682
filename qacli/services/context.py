"""The context of a follow-up: the turns of its thread that fit the token budget."""

from typing import TYPE_CHECKING

from qacli.attachments import placeholder_parts
from qacli.cost import estimate_tokens
from qacli.domain import Turn
from qacli.errors import (
    InvalidRequest,
)

if TYPE_CHECKING:
    from qacli.db.records import Store


def load_context(store: "Store", follows_id: int, budget: int) -> tuple[list[Turn], int]:
    """What a follow-up of a record goes on from, and how many older turns had no room.

    Args:
        store: The history.
        follows_id: The record.
        budget: About how many tokens the turns may take together; the oldest are left out first.

    Raises:
        NotFound: There is no such record.
        InvalidRequest: It has no answer to go on from.
    """
    thread = store.thread(follows_id)
    if thread[-1].answer is None:
        raise InvalidRequest(
            f"Record {follows_id} has no answer to go on from.", "Follow up another."
        )
    turns: list[Turn] = []
    left = budget
    for record in reversed(thread):
        left -= estimate_tokens(record.question + (record.answer or ""))
        if left < 0 and turns:
            break
        turns.append(
            Turn(record.question, record.answer or "", placeholder_parts(record.attachments))
        )
    return turns[::-1], len(thread) - len(turns)
