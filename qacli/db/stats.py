"""Count questions, tokens, cost and latency by groups."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from qacli.db.filters import Filter
from qacli.db.models import Batch
from qacli.db.records import Store
from qacli.db.search import RECORDS
from qacli.domain import GroupBy, Status


@dataclass(frozen=True, slots=True)
class Row:
    """The numbers of one day, model, tag, batch, kind of error or endpoint.

    Attributes:
        name: The group; a day is in UTC.
        records: The number of records; `answered` have an answer.
        prompt_tokens: The sum, as of completion_tokens; unknown counts are 0.
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


def stats(store: Store, by: GroupBy, only: Filter) -> list[Row]:
    """Return the numbers of each group: days in order of time, other groups by size."""
    column = RECORDS.c
    source: sa.FromClause = RECORDS
    name: sa.ColumnElement[Any]
    conditions = store.with_owner(only).conditions(sqlite=store.sqlite)
    if by is GroupBy.DAY:
        day = sa.func.date(column.created_at)
        in_utc = sa.func.to_char(sa.func.timezone("UTC", column.created_at), "YYYY-MM-DD")
        name = day if store.sqlite else in_utc
    elif by is GroupBy.MODEL:
        name = sa.func.coalesce(column.model, "(none)")
    elif by is GroupBy.ENDPOINT:
        name = sa.func.coalesce(column.endpoint, "(none)")
    elif by is GroupBy.ERROR:
        name = column.error_kind
        conditions.append(name.is_not(None))
    elif by is GroupBy.TAG:
        elements = sa.func.json_each if store.sqlite else sa.func.jsonb_array_elements_text
        tags = elements(column.tags).table_valued("value", joins_implicitly=True)
        source, name = RECORDS.join(tags, sa.true()), tags.c.value
    else:
        batch = Batch.__table__  # type: ignore[attr-defined]
        source, name = RECORDS.join(batch, batch.c.id == column.batch_id), batch.c.name
    answered = sa.case((column.status == Status.ANSWERED, 1), else_=0)
    latency = sa.case((column.status == Status.ANSWERED, column.latency_ms))
    token_columns = (
        *(column.prompt_tokens, column.completion_tokens),
        *(column.cached_tokens, column.reasoning_tokens),
    )
    order = name if by is GroupBy.DAY else sa.func.count().desc()
    query = (
        sa.select(
            name,
            sa.func.count(),
            sa.func.sum(answered),
            *(sa.func.coalesce(sa.func.sum(tokens), 0) for tokens in token_columns),
            sa.func.sum(column.cost_usd),
            sa.func.avg(latency),
        )
        .select_from(source)
        .where(*conditions)
        .group_by(name)
        .order_by(order, name)
    )
    with store.transaction() as connection:
        return [
            Row(
                str(group),
                records,
                int(answers),
                int(prompt),
                int(completion),
                int(cached),
                int(reasoning),
                cost,
                None if mean is None else round(mean),
            )
            for group, records, answers, prompt, completion, cached, reasoning, cost, mean in (
                connection.execute(query)
            )
        ]
