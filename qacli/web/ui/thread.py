"""A record in its thread: the records before it and its follow-ups."""

from dataclasses import dataclass, field

from qacli.db.filters import Filter
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.errors import NotFound

MAX_RECORDS = 30
"""Records above the addressed one, and below it; there are links to further ones."""

MAX_BRANCHES = 20


@dataclass(slots=True, kw_only=True)
class Thread:
    """The records to show, the oldest first.

    Attributes:
        records: The record, those that it follows up, and its follow-ups up to the first branch.
        earlier: The id of the record before the first one, if the thread is too long to show.
        removed: The id of the record before the first one, if it was deleted.
        branches: The follow-ups of the last record, if it has several or the thread is too long.
    """

    records: list[QuestionAnswer]
    earlier: int | None = None
    removed: int | None = None
    branches: list[QuestionAnswer] = field(default_factory=list)


def load_thread(store: Store, record_id: int) -> Thread:
    """Return a record in its thread.

    Raises:
        NotFound: There is no record with this id.
    """
    thread = Thread(records=[store.get(record_id)])
    seen = {record_id}
    while (above := thread.records[0].follows_id) is not None and above not in seen:
        if len(thread.records) >= MAX_RECORDS:
            thread.earlier = above
            break
        try:
            thread.records.insert(0, store.get(above))
        except NotFound:
            thread.removed = above
            break
        seen.add(above)
    for _ in range(MAX_RECORDS):
        following = store.page(limit=MAX_BRANCHES, only=Filter(follows_id=thread.records[-1].id))
        if len(following) != 1 or following[0].id in seen:
            thread.branches = [record for record in following if record.id not in seen]
            return thread
        thread.records += following
        seen.add(following[0].id or 0)
    thread.branches = [thread.records.pop()]
    return thread
