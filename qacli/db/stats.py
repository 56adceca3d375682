"""Count questions, tokens, cost and latency by groups.

Days, weeks and months are those of the local time zone, as records are shown. A database does not
know that zone, so it counts quarters of an hour (no zone has a smaller offset), and they are added
up here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from qacli.db.filters import Filter
from qacli.db.models import BATCHES, RECORDS
from qacli.db.records import Store
from qacli.domain import GroupBy, Status


@dataclass(frozen=True, slots=True)
class StatsRow:
    """The numbers of one day, week, month, model, tag, batch, kind of error or endpoint.

    Attributes:
        name: The group: a local day (`2026-11-27`), week (ISO 8601, `2026-W48`) or month
            (`2026-11`), or the name of another group.
        records: The number of records; `answered` have an answer.
        prompt_tokens: The sum; unknown counts are 0.
        completion_tokens: The sum; unknown counts are 0.
        cached_tokens: The part of `prompt_tokens` from the provider's cache, if it is known.
        reasoning_tokens: The part of `completion_tokens` that is reasoning, if it is known.
        cost_usd: The sum of the known costs; None if no cost is known.
        latency_ms: The mean of the answered records.
    """

    name: str
    records: int
    answered: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    latency_ms: int | None


SLOT_SECONDS = 900
TIME_FORMATS = {GroupBy.DAY: "%Y-%m-%d", GroupBy.WEEK: "%G-W%V", GroupBy.MONTH: "%Y-%m"}
"""The name of a local time's group."""


def stats(store: Store, by: GroupBy, only: Filter) -> list[StatsRow]:
    """Return the numbers of each group: times in their order, other groups by size."""
    column = RECORDS.c
    conditions = store.with_owner(only).conditions(sqlite=store.sqlite)
    source, name = _grouping(by, sqlite=store.sqlite)
    if by in {GroupBy.ERROR, GroupBy.RATING}:
        conditions.append(name.is_not(None))
    answered = column.status == Status.ANSWERED
    latency = sa.case((answered, column.latency_ms))
    sums = (
        *(sa.case((answered, 1), else_=0), column.prompt_tokens, column.completion_tokens),
        *(column.cached_tokens, column.reasoning_tokens),
    )
    query = (
        sa.select(
            name,
            sa.func.count(),
            *(sa.func.coalesce(sa.func.sum(number), 0) for number in sums),
            sa.func.sum(column.cost_usd),
            sa.func.coalesce(sa.func.sum(latency), 0),
            sa.func.count(latency),
        )
        .select_from(source)
        .where(*conditions)
        .group_by(name)
        .order_by(name if by in TIME_FORMATS else sa.func.count().desc(), name)
    )
    with store.transaction() as connection:
        rows = connection.execute(query).all()
    if by not in TIME_FORMATS:
        return [_row(str(group), [numbers]) for group, *numbers in rows]
    groups: dict[str, list[list[Any]]] = {}
    for slot, *numbers in rows:
        local = datetime.fromtimestamp(int(slot) * SLOT_SECONDS, UTC).astimezone()
        groups.setdefault(local.strftime(TIME_FORMATS[by]), []).append(numbers)
    return [_row(group, parts) for group, parts in groups.items()]


def _grouping(by: GroupBy, *, sqlite: bool) -> tuple[sa.FromClause, sa.ColumnElement[Any]]:
    """Return the records, joined with a table where a group needs it, and the name of the group."""
    column = RECORDS.c
    match by:
        case GroupBy.MODEL | GroupBy.ENDPOINT:
            return RECORDS, sa.func.coalesce(column[by.value], "(none)")
        case GroupBy.ERROR:
            return RECORDS, column.error_kind
        case GroupBy.RATING:
            return RECORDS, column.rating
        case GroupBy.TAG:
            elements = sa.func.json_each if sqlite else sa.func.jsonb_array_elements_text
            tags = elements(column.tags).table_valued("value", joins_implicitly=True)
            return RECORDS.join(tags, sa.true()), tags.c.value
        case GroupBy.BATCH:
            return RECORDS.join(BATCHES, BATCHES.c.id == column.batch_id), BATCHES.c.name
        case _:
            return RECORDS, _slot(sqlite=sqlite)


def _slot(*, sqlite: bool) -> sa.ColumnElement[Any]:
    """Return the number of the quarter of an hour since 1970 in which a record was asked."""
    created_at = RECORDS.c.created_at
    if sqlite:
        return sa.cast(sa.func.strftime("%s", created_at), sa.Integer).op("/")(SLOT_SECONDS)
    return sa.func.floor(sa.extract("epoch", created_at) / SLOT_SECONDS)


def _row(name: str, parts: Iterable[list[Any]]) -> StatsRow:
    """Return the sums of one or more rows of the query, which are parts of one group."""
    columns = list(zip(*parts, strict=True))
    records, answered, prompt, completion, cached, reasoning = (
        sum(map(int, column)) for column in columns[:6]
    )
    costs = [cost for cost in columns[6] if cost is not None]
    latency, timed = (sum(map(int, column)) for column in columns[7:])
    return StatsRow(
        *(name, records, answered, prompt, completion, cached, reasoning),
        cost_usd=sum(costs) if costs else None,
        latency_ms=round(latency / timed) if timed else None,
    )
