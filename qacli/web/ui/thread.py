"""A record in its thread: what it follows up, and what follows it up."""

from dataclasses import dataclass, field

from qacli.db.filters import Filter
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store

LONGEST = 30
"""Records on one page, above and below; further ones are a link away."""

BRANCHES = 20


@dataclass(slots=True, kw_only=True)
class Thread:
    """The records to show, the oldest first.

    Attributes:
        records: The record itself, what it follows up, and what goes on from it without a branch.
        earlier: A record further up that is not shown; None where there is none.
        removed: The first one's follows_id where that record is gone.
        branches: What follows up the last one, where that is more than one, or too far down.
    """

    records: list[QuestionAnswer]
    earlier: int | None = None
    removed: int | None = None
    branches: list[QuestionAnswer] = field(default_factory=list)


def thread(store: Store, record_id: int) -> Thread:
    """Return the record in its thread.

    Raises:
        NotFound: There is no such record.
    """
    records = store.thread(record_id, LONGEST + 1)
    result = Thread(records=records[-LONGEST:])
    seen = {record.id for record in result.records}
    if len(records) > LONGEST:
        result.earlier = records[0].id
    elif records[0].follows_id not in seen:
        result.removed = records[0].follows_id
    below = store.followers(record_id, LONGEST)
    result.records += [record for record in below if record.id not in seen]
    seen |= {record.id for record in below}
    if len(below) == LONGEST:
        result.branches = [result.records.pop()]
    else:
        last = Filter(follows_id=result.records[-1].id)
        branches = store.page(limit=BRANCHES, only=last)
        result.branches = [record for record in branches if record.id not in seen]
    return result
