"""Search a history on PostgreSQL in steps of ids, from one end, until there are enough matches.

A GIN index has the matches of a word in no useful order: to find the newest 20, PostgreSQL would
read all of them, a million of a common word. The index has the block of each id too, so the matches
of some blocks can be read alone. The first step is small, for common words; the next ones are
larger, for rare words. The largest is limited, so that the matches of one step fit into `work_mem`:
otherwise PostgreSQL would compute the words of each record again.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from qacli.db.filters import Filter
from qacli.db.models import RECORDS
from qacli.db.search import BLOCK_BITS, parse_terms
from qacli.validation import MAX_ID

if TYPE_CHECKING:
    from datetime import datetime

GROWTH = 8
MAX_BLOCKS = 64
"""The blocks of a step at most: half a million ids."""


def search_steps(
    connection: sa.Connection,
    only: Filter,
    *,
    after: int | None = None,
    before: int | None = None,
    newest_first: bool = False,
) -> Iterator[list[sa.ColumnElement[bool]]]:
    """Yield the conditions of each step: those of the filter, for a part of the range of ids.

    Without a search in the index of PostgreSQL, the only step is the whole range.

    Args:
        connection: The open database.
        only: The filter.
        after: Only ids above this one.
        before: Only ids below this one.
        newest_first: Begin with the highest ids.
    """
    low = None if after is None else max(min(after, MAX_ID), -1)
    high = None if before is None else max(min(before, MAX_ID), -1)
    if not _has_steps(connection, only):
        sqlite = connection.dialect.name == "sqlite"
        yield [*only.conditions(sqlite=sqlite), *_between(low, high)]
        return
    for blocks in _blocks(connection, low, high, newest_first=newest_first):
        yield [*only.conditions(sqlite=False, blocks=blocks), *_between(low, high)]


def _has_steps(connection: sa.Connection, only: Filter) -> bool:
    terms = parse_terms(only.search or "")
    return connection.dialect.name != "sqlite" and any(term.is_indexed for term in terms)


def id_order(
    connection: sa.Connection, only: Filter, *, newest_first: bool
) -> sa.ColumnElement[Any]:
    """Return the order by ids, for the queries of `search_steps`.

    In a step it is not the order of an index: the planner would read the records in the order of
    that index, and compute the words of each, until there are enough matches.
    """
    order = RECORDS.c.id + 0 if _has_steps(connection, only) else RECORDS.c.id
    return order.desc() if newest_first else order


def _blocks(
    connection: sa.Connection, low: int | None, high: int | None, *, newest_first: bool
) -> Iterator[range]:
    """Yield the blocks of each step between two ids."""
    size = 1
    end = sa.func.max(RECORDS.c.id) if newest_first else sa.func.min(RECORDS.c.id)
    # The next record there is: a gap between the ids may be wide.
    while (edge := connection.scalar(sa.select(end).where(*_between(low, high)))) is not None:
        block = edge >> BLOCK_BITS
        blocks = range(block - size + 1, block + 1) if newest_first else range(block, block + size)
        yield blocks
        if newest_first:
            high = blocks.start << BLOCK_BITS
        else:
            low = (blocks.stop << BLOCK_BITS) - 1
        size = min(size * GROWTH, MAX_BLOCKS)


def rows_in_steps(  # noqa: PLR0913 - the range of `search_steps`
    connection: sa.Connection,
    query: sa.Select[Any],
    only: Filter,
    limit: int,
    *,
    after: int | None = None,
    before: int | None = None,
    newest_first: bool = False,
) -> list[sa.Row[Any]]:
    """Return the first rows of a query of records in the order of their ids.

    Args:
        connection: The open database.
        query: The query, without conditions.
        only: The filter.
        limit: The number of rows at most.
        after: Only ids above this one.
        before: Only ids below this one.
        newest_first: Begin with the highest ids.
    """
    query = query.order_by(id_order(connection, only, newest_first=newest_first))
    rows: list[sa.Row[Any]] = []
    for conditions in search_steps(
        connection, only, after=after, before=before, newest_first=newest_first
    ):
        rows += connection.execute(query.where(*conditions).limit(limit - len(rows))).all()
        if len(rows) >= limit:
            break
    return rows


def newest_by_time(
    connection: sa.Connection, only: Filter, limit: int, *conditions: sa.ColumnElement[bool]
) -> list[int] | None:
    """Return the ids of the newest matches of a search by the time of their questions.

    Most records have their ids in the order of their times: the matches of the newest blocks are
    the newest, unless an older block has a record of that time too.

    Args:
        connection: The open database.
        only: The filter.
        limit: The number of ids at most.
        conditions: More conditions, on the time or the id.

    Returns:
        The ids, or None if the search has no steps, or the order of the ids is another one.
    """
    if not _has_steps(connection, only):
        return None
    newest: list[tuple[datetime, int]] = []
    columns = (RECORDS.c.created_at, RECORDS.c.id)
    not_indexed = RECORDS.c.created_at.op("+")(sa.text("interval '0'"))  # see `id_order`
    query = sa.select(*columns).order_by(not_indexed.desc(), RECORDS.c.id.desc()).limit(limit)
    for blocks in _blocks(connection, None, None, newest_first=True):
        step = query.where(*only.conditions(sqlite=False, blocks=blocks), *conditions)
        newest += [(row.created_at, row.id) for row in connection.execute(step)]
        newest = sorted(newest, reverse=True)[:limit]
        if len(newest) == limit:
            older_block = RECORDS.c.id < blocks.start << BLOCK_BITS
            later = sa.select(RECORDS.c.id).where(
                RECORDS.c.created_at >= newest[-1][0], older_block, *conditions
            )
            if connection.scalar(later.limit(1)) is not None:
                return None
            break
    return [record_id for _, record_id in newest]


def _between(low: int | None, high: int | None) -> list[sa.ColumnElement[bool]]:
    conditions = []
    if low is not None:
        conditions.append(RECORDS.c.id > low)
    if high is not None:
        conditions.append(RECORDS.c.id < high)
    return conditions
