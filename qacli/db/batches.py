"""Create and change batches: their items and their workers.

An item goes from `waiting` to `claimed` to `answered` or `failed`. A worker claims many items at a
time and skips rows that other transactions have locked, so that processes share a batch without
waiting for each other. Claims are valid as long as the worker's lease; then the items wait again.
`qacli.db.batch_workers` has the workers and their claims, and `qacli.db.batch_loading` the way of
the items from the file.
"""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from qacli.batch_states import ItemState
from qacli.db.batch_loading import BatchLoading, refuse_changed_settings
from qacli.db.batch_parts import OPEN
from qacli.db.batch_results import FinishedItem, Summary
from qacli.db.batch_workers import BudgetReached, ClaimedItem, WorkerEvicted, WorkerStatus
from qacli.db.extra_models import PARTS, BatchWorker
from qacli.db.models import BATCHES, ITEMS, OUTPUTS, Batch
from qacli.domain import now
from qacli.errors import NotFound

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


class Batches(BatchLoading):
    """The batches in a store."""

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
        refuse_changed_settings(name, batch.settings, settings)
        return batch

    def find_begun(self, path: str, settings: dict[str, Any]) -> Batch | None:
        """Return the newest batch of a file with these settings, but for the model, if any."""
        expected = {**settings, "model": None}
        for batch in reversed(self.all()):
            if batch.file.get("path") == path and {**batch.settings, "model": None} == expected:
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

    def refuse_removed(self, batch_id: int) -> None:
        """Check that the batch still exists.

        Raises:
            NotFound: The batch was removed.
        """
        query = sa.select(col(Batch.id)).where(col(Batch.id) == batch_id)
        with self.store.transaction() as connection:
            if connection.scalar(query) is None:
                raise NotFound(
                    "The batch was removed while it was asked.",
                    "Its records stay in the history; the same command asks all questions again.",
                )

    def _change(self, batch_id: int, **values: object) -> None:
        with self.store.transaction(write=True) as connection:
            connection.execute(sa.update(Batch).where(col(Batch.id) == batch_id).values(**values))
