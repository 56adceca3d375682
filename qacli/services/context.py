"""The context of a follow-up: the turns of its thread that fit the token budget."""

from typing import TYPE_CHECKING

from qacli.attachments import placeholder_parts
from qacli.cost import turn_tokens
from qacli.domain import Status, Turn
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.db.records import Store

PAGE = 20
"""The number of turns that are read at once: most budgets have room for fewer."""


def load_context(store: "Store", follows_id: int, budget: int) -> tuple[list[Turn], int]:
    """Return the turns that go along with a follow-up, and the number of older ones left out.

    Only the newest records are read, a page at a time, until the budget is spent.

    Args:
        store: The history.
        follows_id: The record that is followed up.
        budget: The number of tokens, estimated, that the turns may take together.

    Raises:
        NotFound: There is no such record.
        InvalidRequest: The record has no answer that a follow-up can continue.
    """
    ids = store.thread_ids(follows_id)
    turns: list[Turn] = []
    remaining = budget
    for start in range(0, len(ids), PAGE):
        for record in store.get_many(ids[start : start + PAGE]):
            if record.id == follows_id:
                if record.status is Status.ASKING:
                    raise InvalidRequest(
                        f"The answer of record {follows_id} is not complete.", "Wait for it."
                    )
                if record.answer is None:
                    raise InvalidRequest(
                        f"Record {follows_id} has no answer that a follow-up can continue.",
                        "Follow up another record.",
                    )
            files = placeholder_parts(record.attachments)
            turn = Turn(record.question, record.answer or "", files)
            remaining -= turn_tokens(turn)
            if remaining < 0 and turns:
                return turns[::-1], len(ids) - len(turns)
            turns.append(turn)
    return turns[::-1], len(ids) - len(turns)
