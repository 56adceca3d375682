"""A record in its thread: what it follows up, and what follows it up."""

from dataclasses import dataclass, field

from qacli.db.filters import Filter
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.errors import NotFound

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
    """The record in its thread.

    Raises:
        NotFound: There is no such record.
    """
    found = Thread(records=[store.get(record_id)])
    seen = {record_id}
    while (above := found.records[0].follows_id) is not None and above not in seen:
        if len(found.records) >= LONGEST:
            found.earlier = above
            break
        try:
            found.records.insert(0, store.get(above))
        except NotFound:
            found.removed = above
            break
        seen.add(above)
    for _ in range(LONGEST):
        following = store.page(limit=BRANCHES, only=Filter(follows_id=found.records[-1].id))
        if len(following) != 1 or following[0].id in seen:
            found.branches = [record for record in following if record.id not in seen]
            return found
        found.records += following
        seen.add(following[0].id or 0)
    found.branches = [found.records.pop()]
    return found
