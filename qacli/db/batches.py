"""Create and change batches: their items and their workers.

An item goes from `waiting` to `claimed` to `answered` or `failed`. A worker claims many items at a
time and skips rows that other transactions have locked, so that processes share a batch without
waiting for each other. Claims are valid as long as the worker's lease; then the items wait again.
`qacli.db.batch_workers` has the workers and their claims.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from qacli.db.batch_parts import OPEN, PARTS
from qacli.db.batch_results import ITEMS, FinishedItem, Summary
from qacli.db.batch_workers import (
    BATCHES,
    BatchWorkers,
    BudgetReached,
    ClaimedItem,
    WorkerEvicted,
    WorkerStatus,
)
from qacli.db.models import OUTPUTS, Batch, BatchItem, BatchWorker
from qacli.domain import ItemState, now
from qacli.errors import InvalidRequest, NotFound

__all__ = [
    "THREADS",
    "Batches",
    "BudgetReached",
    "ClaimedItem",
    "FinishedItem",
    "Summary",
    "WorkerEvicted",
    "WorkerStatus",
]

THREADS = 2
"""Threads of a batch process that use the database: one claims items, one stores results."""


class Batches(BatchWorkers):
    """The batches in a store."""

    def find(self, name: str) -> Batch | None:
        """Return the batch of that name, or None."""
        query = sa.select(Batch).where(col(Batch.name) == name)
        with self.store.session() as session:
            batch: Batch | None = session.execute(query).scalar()
        return batch

    def load(
        self,
        name: str,
        settings: dict[str, Any],
        pages: Iterable[Sequence[dict[str, Any]]],
        source: dict[str, Any],
    ) -> Batch:
        """Create a batch, or add items to it: all in one transaction, or none.

        Args:
            name: The batch's name; it is created if it does not exist.
            settings: The options that shape its answers.
            pages: The items, each with `position`, `key` and `payload`.
            source: The state of the file; see `qacli.batch.loader.BatchSource.state`.

        Raises:
            InvalidRequest: There are no items, or the batch was begun with other items or settings.
        """
        with self.store.transaction(write=True) as connection:
            self._insert(connection, name, settings)
            # A process that loads the same batch at the same time waits here.
            batch = connection.execute(
                sa.select(BATCHES).where(BATCHES.c.name == name).with_for_update()
            ).one()
            values: dict[str, Any] = {"cancelled_at": None}
            if batch.items is None:
                # An older version of qa was stopped while it loaded the items.
                connection.execute(sa.delete(ITEMS).where(ITEMS.c.batch_id == batch.id))
                values["settings"] = settings
            else:
                _refuse_changes(name, batch.settings, settings)
            count = 0
            for page in pages:
                self._add(connection, batch.id, page)
                count += len(page)
            if not count:
                raise InvalidRequest("There is no question in the file.", "Write one in each line.")
            if batch.items is not None and count < batch.items:
                raise InvalidRequest(
                    f"The file has {count:,} questions, and the batch was begun with "
                    f"{batch.items:,}.",
                    "Give the changed file a batch of its own: --name",
                )
            outputs = {key: value for key, value in batch.source.items() if key == OUTPUTS}
            values |= {"items": count, "source": {**source, **outputs}}
            connection.execute(sa.update(BATCHES).where(BATCHES.c.id == batch.id).values(**values))
            if not self.store.sqlite:
                # Without statistics PostgreSQL expects a few rows, and reads all for each claim.
                connection.execute(sa.text("ANALYZE batch_item"))
        return self.get(name)

    def save_output_state(self, batch_id: int, path: str, state: dict[str, Any]) -> None:
        """Store the state of an output file that this batch has written."""
        own = BATCHES.c.id == batch_id
        with self.store.transaction(write=True) as connection:
            source = connection.scalar(sa.select(BATCHES.c.source).where(own).with_for_update())
            outputs = {**(source or {}).get(OUTPUTS, {}), path: state}
            source = {**(source or {}), OUTPUTS: outputs}
            connection.execute(sa.update(BATCHES).where(own).values(source=source))

    def save_run_options(
        self, batch_id: int, run_options: dict[str, Any], max_cost: float | None
    ) -> None:
        """Store the options with which other workers join, and the budget if it is not None."""
        budget = {} if max_cost is None else {"max_cost_usd": max_cost}
        self._change(batch_id, run_options=run_options, **budget)

    def next_open(self, besides: Collection[int] = (), name: str | None = None) -> Batch | None:
        """Return the oldest batch with unfinished items that is not cancelled; None without one.

        A batch with items at the provider's Batch API is not returned.

        Args:
            besides: The ids of batches that are not returned.
            name: The name of the only batch that is returned.
        """
        waits = sa.exists().where(
            ITEMS.c.batch_id == BATCHES.c.id,
            ITEMS.c.state.in_([ItemState.WAITING, ItemState.CLAIMED]),
        )
        is_remote = sa.exists().where(PARTS.c.batch_id == BATCHES.c.id, PARTS.c.state.in_(OPEN))
        query = sa.select(Batch).where(
            col(Batch.cancelled_at).is_(None), col(Batch.items).is_not(None), waits, ~is_remote
        )
        if name is not None:
            query = query.where(col(Batch.name) == name)
        query = query.where(col(Batch.id).not_in(besides)).order_by(col(Batch.id)).limit(1)
        with self.store.session() as session:
            batch: Batch | None = session.execute(query).scalar()
        return batch

    def begin(self, name: str, settings: dict[str, Any]) -> Batch:
        """Return the batch of that name; create it if it does not exist.

        Raises:
            InvalidRequest: The batch has other settings; the message names them.
        """
        with self.store.transaction(write=True) as connection:
            self._insert(connection, name, settings)
        batch = self.get(name)
        _refuse_changes(name, batch.settings, settings)
        return batch

    def _insert(self, connection: sa.Connection, name: str, settings: dict[str, Any]) -> None:
        insert = self.store.insert(BATCHES)
        values = insert.values(name=name, created_at=now(), settings=settings, source={})
        connection.execute(values.on_conflict_do_nothing(index_elements=["name"]))

    def get(self, name: str) -> Batch:
        """Return the batch of that name.

        Raises:
            NotFound: There is no batch of that name.
        """
        batch = self.find(name)
        if batch is None:
            raise NotFound(f"There is no batch {name!r}.", "List them: qa batch list")
        return batch

    def find_begun(self, path: str, settings: dict[str, Any]) -> Batch | None:
        """Return the newest batch of a file with these settings, but for the model, if any."""
        wanted = {**settings, "model": None}
        for batch in reversed(self.all()):
            if batch.file.get("path") == path and {**batch.settings, "model": None} == wanted:
                return batch
        return None

    def remove(self, batch_id: int) -> None:
        """Delete a batch with its items; their records stay in the history."""
        with self.store.transaction(write=True) as connection:
            workers = sa.delete(BatchWorker).where(col(BatchWorker.batch_id) == batch_id)
            connection.execute(workers)
            connection.execute(sa.delete(PARTS).where(PARTS.c.batch_id == batch_id))
            connection.execute(sa.delete(ITEMS).where(ITEMS.c.batch_id == batch_id))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == batch_id))

    def all(self) -> list[Batch]:
        """Return all batches, oldest first."""
        with self.store.session() as session:
            return list(session.execute(sa.select(Batch).order_by(col(Batch.id))).scalars())

    def open_parts(self) -> dict[int, int]:
        """Return the number of parts at the provider's Batch API, by the ids of the batches."""
        query = sa.select(PARTS.c.batch_id, sa.func.count()).where(PARTS.c.state.in_(OPEN))
        with self.store.transaction() as connection:
            rows = connection.execute(query.group_by(PARTS.c.batch_id))
            return {batch_id: count for batch_id, count in rows}  # noqa: C416 - rows

    def _add(
        self, connection: sa.Connection, batch_id: int, items: Sequence[dict[str, Any]]
    ) -> None:
        """Add items; existing ones are not changed.

        Raises:
            InvalidRequest: A different item has the same position or the same key.
        """
        rows = [
            {"batch_id": batch_id, "state": ItemState.WAITING, "worker": None, **item}
            for item in items
        ]
        insert = self.store.insert(BatchItem).on_conflict_do_nothing()
        span = sa.and_(
            ITEMS.c.batch_id == batch_id,
            ITEMS.c.position.between(items[0]["position"], items[-1]["position"]),
        )
        query = sa.select(ITEMS.c.position, ITEMS.c.key, ITEMS.c.payload).where(span)
        connection.execute(insert, rows)
        stored = {row.position: row for row in connection.execute(query)}
        for item in items:
            row = stored.get(item["position"])
            if row is None:
                raise InvalidRequest(
                    f"The key {item['key']!r} occurs twice (item {item['position'] + 1}).",
                    "Give each item an id of its own.",
                )
            if row.key != item["key"] or row.payload != item["payload"]:
                raise InvalidRequest(
                    f"Item {item['position'] + 1} has changed since this batch was begun.",
                    "Give the changed file a batch of its own: --name",
                )

    def cancel(self, batch_id: int) -> None:
        """Make all workers of the batch stop."""
        self._change(batch_id, cancelled_at=now())

    def resume(self, batch_id: int, *, retry_failed: bool) -> None:
        """Undo a cancellation; with `retry_failed`, failed items wait again."""
        self._change(batch_id, cancelled_at=None)
        if retry_failed:
            self._release(ITEMS.c.batch_id == batch_id, ITEMS.c.state == ItemState.FAILED)

    def release_failed(self, batch_id: int, keys: Collection[str]) -> None:
        """Make these items wait again, if they have failed; their records stay."""
        self._release(
            ITEMS.c.batch_id == batch_id,
            ITEMS.c.state == ItemState.FAILED,
            ITEMS.c.key.in_(keys),
        )

    def is_cancelled(self, batch_id: int) -> bool:
        """Return whether the batch was cancelled."""
        query = sa.select(col(Batch.cancelled_at)).where(col(Batch.id) == batch_id)
        with self.store.transaction() as connection:
            return connection.scalar(query) is not None

    def _change(self, batch_id: int, **values: object) -> None:
        with self.store.transaction(write=True) as connection:
            connection.execute(sa.update(Batch).where(col(Batch.id) == batch_id).values(**values))


def _refuse_changes(name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    if changed:
        changes = "; ".join(
            f"{key} was {before.get(key)!r}, is {after.get(key)!r}" for key in changed
        )
        raise InvalidRequest(
            f"The batch {name!r} was begun with other settings: {changes}.",
            "Run it with the same settings, or give this batch a name of its own: --name",
        )
