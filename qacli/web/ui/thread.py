"""A record in its thread: the records before it and its follow-ups."""

from dataclasses import dataclass, field

from qacli.db.filters import Filter
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store

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
    records = store.thread(record_id, MAX_RECORDS + 1)
    thread = Thread(records=records[-MAX_RECORDS:])
    seen = {record.id for record in thread.records}
    if len(records) > MAX_RECORDS:
        thread.earlier = records[0].id
    elif records[0].follows_id not in seen:
        thread.removed = records[0].follows_id
    below = store.followers(record_id, MAX_RECORDS)
    thread.records += [record for record in below if record.id not in seen]
    seen |= {record.id for record in below}
    if len(below) == MAX_RECORDS:
        thread.branches = [thread.records.pop()]
    else:
        last = Filter(follows_id=thread.records[-1].id)
        branches = store.page(limit=MAX_BRANCHES, only=last)
        thread.branches = [record for record in branches if record.id not in seen]
    return thread
