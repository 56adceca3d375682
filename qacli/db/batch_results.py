"""Read the results of a batch: its settled items with their records, and their totals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

import sqlalchemy as sa

from qacli.batch_states import ROW, ItemState
from qacli.db.export import PAGE, RAW, row_to_dict
from qacli.db.models import ITEMS, RECORDS
from qacli.db.records import Store
from qacli.domain import Status
from qacli.errors import UnfitAnswer

IS_UNFIT = sa.and_(RECORDS.c.status == Status.INTERRUPTED, RECORDS.c.error_kind == UnfitAnswer.kind)
"""The condition of records whose answers came by the Batch API and do not fit their schemas."""


@dataclass(frozen=True, slots=True)
class FinishedItem:
    """An item that is answered or has failed, with the values that its output needs.

    Attributes:
        record: The item's record as JSON has it; None if it was deleted.
        row: The cells of the item's row in the file; None without any, or if they were not asked
            for. See `qacli.batch.row.Row`.
    """

    position: int
    key: str
    record: dict[str, Any] | None
    row: list[Any] | dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals of a batch so far.

    Attributes:
        states: The number of items in each state.
        errors: The number of failed records of each kind of error.
        records: The number of records.
        prompt_tokens: The sum of the counts that the provider reported.
        completion_tokens: The sum of the counts that the provider reported.
        cost_usd: The sum of the known costs; None if no cost is known.
        first: The time of the first question.
        last: The time at which the last answer was complete.
    """

    states: dict[str, int]
    errors: dict[str, int]
    records: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    first: datetime | None
    last: datetime | None


class BatchResults:
    """Queries of batch results; `qacli.db.batches.Batches` adds the changes."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def counts(self, batch_id: int) -> dict[str, int]:
        """Return the number of items by state."""
        query = (
            sa.select(ITEMS.c.state, sa.func.count())
            .where(ITEMS.c.batch_id == batch_id)
            .group_by(ITEMS.c.state)
        )
        with self.store.transaction() as connection:
            counts = {state.value: count for state, count in connection.execute(query)}
        return {state.value: counts.get(state.value, 0) for state in ItemState}

    def counts_by_model(self, batch_id: int, models: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return the number of items by model and state, of a batch with these models."""
        number = (ITEMS.c.position % len(models)).label("number")
        query = sa.select(number, ITEMS.c.state, sa.func.count()).where(
            ITEMS.c.batch_id == batch_id
        )
        counts = {model: dict.fromkeys(ItemState, 0) for model in models}
        with self.store.transaction() as connection:
            for index, state, count in connection.execute(query.group_by(number, ITEMS.c.state)):
                counts[models[index]][state] = count
        return {model: {s.value: n for s, n in states.items()} for model, states in counts.items()}

    def finished(
        self, batch_id: int, start: int, limit: int, *, rows: bool = False
    ) -> list[FinishedItem]:
        """Return the settled items from position `start` up to the first that is not settled.

        Args:
            batch_id: The batch.
            start: The first position.
            limit: The maximum number of items.
            rows: Return the rows of the file as well.
        """
        query = (
            _item_query(rows=rows)
            .where(ITEMS.c.batch_id == batch_id, ITEMS.c.position >= start)
            .order_by(ITEMS.c.position)
            .limit(limit)
        )
        with self.store.transaction() as connection:
            items = list(takewhile(_is_settled, connection.execute(query)))
            return _with_records(connection, batch_id, items)

    def finished_by_key(
        self, batch_id: int, keys: Sequence[str | None], *, rows: bool = False
    ) -> list[FinishedItem]:
        """Return the items with these keys that are settled, in the order of the items."""
        in_batch = sa.and_(ITEMS.c.batch_id == batch_id, ITEMS.c.key.in_(keys))
        query = _item_query(rows=rows).where(in_batch)
        with self.store.transaction() as connection:
            items = connection.execute(query.order_by(ITEMS.c.position))
            return _with_records(
                connection, batch_id, [item for item in items if _is_settled(item)]
            )

    def all_finished(self, batch_id: int, *, rows: bool = False) -> Iterator[list[FinishedItem]]:
        """Yield all settled items that have a record, in order, a page at a time."""
        position = 0
        while True:
            with self.store.transaction() as connection:
                next_position = connection.scalar(
                    sa.select(sa.func.min(ITEMS.c.position)).where(
                        ITEMS.c.batch_id == batch_id,
                        ITEMS.c.position >= position,
                        ITEMS.c.state.in_([ItemState.ANSWERED, ItemState.FAILED]),
                    )
                )
            if next_position is None:
                return
            page = self.finished(batch_id, next_position, PAGE, rows=rows)
            yield [item for item in page if item.record is not None]
            position = page[-1].position + 1 if page else next_position + 1

    def has_unfit_answers(self, batch_id: int) -> bool:
        """Return whether a waiting item of the batch has an answer that does not fit its schema."""
        query = sa.select(RECORDS.c.id).where(RECORDS.c.batch_id == batch_id, IS_UNFIT).limit(1)
        with self.store.transaction() as connection:
            return connection.execute(query).first() is not None

    def unfit_answer(self, batch_id: int, key: str) -> sa.Row[Any] | None:
        """Return the record of a waiting item whose answer does not fit its schema; or None."""
        names = (
            *("uid", "created_at", "answer", "model", "prompt_tokens", "completion_tokens"),
            *("cached_tokens", "reasoning_tokens", "cost_usd", "endpoint"),
        )
        query = sa.select(*(RECORDS.c[name] for name in names)).where(
            RECORDS.c.batch_id == batch_id, RECORDS.c.item_key == key, IS_UNFIT
        )
        with self.store.transaction() as connection:
            return connection.execute(query).first()

    def summary(self, batch_id: int) -> Summary:
        """Return the totals of the batch so far."""
        in_batch = RECORDS.c.batch_id == batch_id
        totals = sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(RECORDS.c.prompt_tokens), 0),
            sa.func.coalesce(sa.func.sum(RECORDS.c.completion_tokens), 0),
            sa.func.sum(RECORDS.c.cost_usd),
            sa.func.min(RECORDS.c.created_at),
            sa.func.max(RECORDS.c.answered_at),
        ).where(in_batch)
        kind = sa.func.coalesce(RECORDS.c.error_kind, "(none)")
        kinds = (
            sa.select(kind, sa.func.count())
            .where(in_batch, RECORDS.c.status == Status.FAILED)
            .group_by(kind)
            .order_by(sa.func.count().desc())
        )
        with self.store.transaction() as connection:
            records, prompt, completion, cost, first, last = connection.execute(totals).one()
            errors = {name: count for name, count in connection.execute(kinds)}  # noqa: C416 - rows
        return Summary(
            states=self.counts(batch_id),
            errors=errors,
            records=records,
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
            cost_usd=cost,
            first=first,
            last=last,
        )


def _item_query(*, rows: bool) -> sa.Select[Any]:
    payload = (ITEMS.c.payload,) if rows else ()
    return sa.select(ITEMS.c.position, ITEMS.c.key, ITEMS.c.state, *payload)


def _is_settled(item: sa.Row[Any]) -> bool:
    return item.state in {ItemState.ANSWERED, ItemState.FAILED}


def _with_records(
    connection: sa.Connection, batch_id: int, items: Sequence[sa.Row[Any]]
) -> list[FinishedItem]:
    """Return the items with their records.

    Two queries and no join: PostgreSQL has no statistics yet for tables that were just filled, and
    would read the whole batch for each page.
    """
    in_batch = RECORDS.c.batch_id == batch_id
    keys = [item.key for item in items]
    rows = connection.execute(RAW.where(in_batch, RECORDS.c.item_key.in_(keys)))
    records = {row.item_key: row_to_dict(row) for row in rows}
    return [
        FinishedItem(
            item.position,
            item.key,
            records.get(item.key),
            row=item.payload.get(ROW) if "payload" in item._fields else None,
        )
        for item in items
    ]
