"""Queries along a thread: the records above a record, which it follows up, and those below it."""

import sqlalchemy as sa

from qacli.db.models import NEWEST_FIRST, RECORDS

MAX_THREAD = 1000
"""The longest thread that is read, in records."""

OLDER, NEWER = RECORDS.alias("older"), RECORDS.alias("newer")
SIBLING, OTHER = RECORDS.alias("sibling"), RECORDS.alias("other")
# Made once: to copy all columns of the table takes longer than the rest of a statement.


def ancestors(record_id: int, owner: str | None, limit: int = MAX_THREAD) -> sa.Subquery:
    """Return `id` and `depth` of a record (depth 1) and of the records above it, each once.

    The thread ends at a record that was deleted or belongs to another caller, or that is already
    in it (a circle).

    Args:
        record_id: The record.
        owner: The caller whose records are read; None reads all.
        limit: The number of records at most.
    """
    chain = (
        sa.select(RECORDS.c.id, RECORDS.c.follows_id, sa.literal(1).label("depth"))
        .where(RECORDS.c.id == record_id, *_owned(RECORDS, owner))
        .cte("chain", recursive=True)
    )
    chain = chain.union_all(
        sa.select(OLDER.c.id, OLDER.c.follows_id, chain.c.depth + 1).where(
            OLDER.c.id == chain.c.follows_id, chain.c.depth < limit, *_owned(OLDER, owner)
        )
    )
    # In a circle the same records appear again, with a larger depth.
    depth = sa.func.min(chain.c.depth).label("depth")
    return sa.select(chain.c.id, depth).group_by(chain.c.id).subquery()


def descendants(record_id: int, owner: str | None, limit: int) -> sa.Subquery:
    """Return `id` and `depth` of a record (depth 0) and of those below it, up to the first branch.

    A record below is the only one that follows up the record above it.

    Args:
        record_id: The record.
        owner: The caller whose records are read; None reads all.
        limit: The number of records below at most.
    """
    chain = sa.select(
        sa.cast(record_id, sa.BigInteger).label("id"), sa.literal(0).label("depth")
    ).cte("chain", recursive=True)
    has_sibling = sa.exists(
        sa.select(SIBLING.c.id).where(
            SIBLING.c.follows_id == chain.c.id,
            SIBLING.c.id != NEWER.c.id,
            *_owned(SIBLING, owner),
        )
    )
    chain = chain.union_all(
        sa.select(NEWER.c.id, chain.c.depth + 1).where(
            NEWER.c.follows_id == chain.c.id,
            chain.c.depth < limit,
            ~has_sibling,
            *_owned(NEWER, owner),
        )
    )
    depth = sa.func.min(chain.c.depth).label("depth")
    return sa.select(chain.c.id, depth).group_by(chain.c.id).subquery()


def connected(record_id: int) -> sa.Select[tuple[int]]:
    """Return a query for the ids of all records of a thread, with all branches.

    Args:
        record_id: One of them; below 0, count back from the newest record (-1).
    """
    start: sa.ScalarSelect[int] | int = record_id
    if record_id < 0:
        newest_first = sa.select(RECORDS.c.id).order_by(*NEWEST_FIRST)
        start = newest_first.offset(-record_id - 1).limit(1).scalar_subquery()
    tree = (
        sa.select(RECORDS.c.id, RECORDS.c.follows_id)
        .where(RECORDS.c.id == start)
        .cte("tree", recursive=True)
    )
    is_linked = sa.or_(OTHER.c.follows_id == tree.c.id, OTHER.c.id == tree.c.follows_id)
    # UNION drops rows that are there already, so that it ends.
    tree = tree.union(sa.select(OTHER.c.id, OTHER.c.follows_id).where(is_linked))
    return sa.select(tree.c.id)


def _owned(records: sa.FromClause, owner: str | None) -> tuple[sa.ColumnElement[bool], ...]:
    return () if owner is None else (records.c.caller == owner,)
