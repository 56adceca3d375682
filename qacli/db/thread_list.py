"""List conversations: the first record of each thread, with the number of its records."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from qacli.db.filters import Filter
from qacli.db.models import RECORDS
from qacli.db.records import Store

PAGE_RECORDS = 200
"""The number of records whose threads one query finds."""

LAST = RECORDS.alias("last")


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation with all its branches.

    Attributes:
        id: The id of its first record.
        question: The first question.
        title: The title of the first record, if it has one.
        created_at: The time of the first question.
        last_id: The newest record.
        last_at: The time of the newest question.
        records: The number of records.
    """

    id: int
    question: str
    title: str | None
    created_at: datetime
    last_id: int
    last_at: datetime
    records: int


def list_threads(store: Store, only: Filter, limit: int | None) -> list[Thread]:
    """Return the threads with a record that the filter selects, those with the newest ones first.

    Args:
        store: The history.
        only: The filter.
        limit: The number of threads at most; None for all.
    """
    roots: dict[int, None] = {}
    before: int | None = None
    while limit is None or len(roots) < limit:
        page = store.page(before=before, limit=PAGE_RECORDS, newest_first=True, only=only)
        ids = [record.id or 0 for record in page]
        if not ids:
            break
        first = _first_records(store, ids)
        roots.update(dict.fromkeys(first[number] for number in ids))
        before = ids[-1]
    threads = _threads(store, list(roots)[:limit])
    return [threads[root] for root in list(roots)[:limit] if root in threads]


def threads_of(store: Store, ids: Sequence[int]) -> dict[int, Thread]:
    """Return the thread of each of these records, by the record's id."""
    first = _first_records(store, ids)
    threads = _threads(store, list(set(first.values())))
    return {number: threads[root] for number, root in first.items() if root in threads}


def _first_records(store: Store, ids: Sequence[int]) -> dict[int, int]:
    """Return the first record of the thread of each of these records."""
    owned = () if store.owner is None else (RECORDS.c.caller == store.owner,)
    chain = (
        sa.select(RECORDS.c.id.label("start"), RECORDS.c.id, RECORDS.c.follows_id)
        .where(RECORDS.c.id.in_(ids))
        .cte("chain", recursive=True)
    )
    # UNION drops rows that are there already, so that a circle ends.
    chain = chain.union(
        sa.select(chain.c.start, RECORDS.c.id, RECORDS.c.follows_id).where(
            RECORDS.c.id == chain.c.follows_id, *owned
        )
    )
    # An imported record can have a higher id than its follow-ups. Without one that follows none,
    # because the first was deleted, it is the oldest.
    begins = sa.func.min(sa.case((chain.c.follows_id.is_(None), chain.c.id)))
    first = sa.func.coalesce(begins, sa.func.min(chain.c.id)).label("first")
    query = sa.select(chain.c.start, first).group_by(chain.c.start)
    with store.transaction() as connection:
        return {row.start: row.first for row in connection.execute(query)}


def _threads(store: Store, roots: Sequence[int]) -> dict[int, Thread]:
    """Return the threads with these first records, by their ids."""
    owned = () if store.owner is None else (RECORDS.c.caller == store.owner,)
    tree = (
        sa.select(RECORDS.c.id.label("root"), RECORDS.c.id)
        .where(RECORDS.c.id.in_(roots))
        .cte("tree", recursive=True)
    )
    tree = tree.union(
        sa.select(tree.c.root, RECORDS.c.id).where(RECORDS.c.follows_id == tree.c.id, *owned)
    )
    sizes = (
        sa.select(
            tree.c.root, sa.func.count().label("records"), sa.func.max(tree.c.id).label("last_id")
        )
        .group_by(tree.c.root)
        .subquery()
    )
    query = (
        sa.select(
            *(RECORDS.c.id, RECORDS.c.question, RECORDS.c.title, RECORDS.c.created_at),
            *(sizes.c.last_id, LAST.c.created_at.label("last_at"), sizes.c.records),
        )
        .join(sizes, sizes.c.root == RECORDS.c.id)
        .join(LAST, LAST.c.id == sizes.c.last_id)
    )
    with store.transaction() as connection:
        return {row.id: Thread(*row) for row in connection.execute(query)}
