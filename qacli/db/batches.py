"""Create and change batches: their items and their workers.

An item goes from `waiting` to `claimed` to `answered` or `failed`. A worker claims many items at a
time and skips rows that other transactions have locked, so that processes share a batch without
waiting for each other. Claims are valid as long as the worker's lease; then the items wait again.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from qacli.db.batch_results import ITEMS, BatchResults, FinishedItem, Summary
from qacli.db.models import OUTPUTS, Batch, BatchItem, BatchWorker
from qacli.domain import ItemState, now
from qacli.errors import InvalidRequest, NotFound

__all__ = [
    "LEASE_SECONDS",
    "THREADS",
    "Batches",
    "ClaimedItem",
    "FinishedItem",
    "Summary",
    "WorkerEvicted",
]

LEASE_SECONDS = 60.0
"""Time, by the database's clock, after which a worker that has not renewed its lease loses it."""

THREADS = 2
"""Threads of a batch process that use the database: one claims items, one stores results."""

BATCHES = Batch.__table__  # type: ignore[attr-defined]


class WorkerEvicted(Exception):
    """The worker's lease has expired, and another worker has released its claims."""


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """An item that a worker has claimed."""

    position: int
    key: str
    payload: dict[str, Any]


class Batches(BatchResults):
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
            connection.execute(sa.delete(ITEMS).where(ITEMS.c.batch_id == batch_id))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == batch_id))

    def all(self) -> list[Batch]:
        """Return all batches, oldest first."""
        with self.store.session() as session:
            return list(session.execute(sa.select(Batch).order_by(col(Batch.id))).scalars())

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

    def claim(self, batch_id: int, worker: str, limit: int) -> list[ClaimedItem]:
        """Claim the first waiting items for a worker, and renew its lease.

        Raises:
            WorkerEvicted: The worker's lease has expired, and its claims have been released.
        """
        # A common table expression: PostgreSQL may run a limited subquery once for each row.
        waiting = (
            sa.select(ITEMS.c.position)
            .where(ITEMS.c.batch_id == batch_id, ITEMS.c.state == ItemState.WAITING)
            .order_by(ITEMS.c.position)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("waiting")
        )
        update = (
            sa.update(ITEMS)
            .where(
                ITEMS.c.batch_id == batch_id,
                ITEMS.c.position.in_(sa.select(waiting.c.position)),
            )
            .values(state=ItemState.CLAIMED, worker=worker)
            .returning(ITEMS.c.position, ITEMS.c.key, ITEMS.c.payload)
        )
        with self.store.transaction(write=True) as connection:
            # The worker's row before its items, as in `evict`: another order could deadlock.
            if not self._renew(connection, worker):
                raise WorkerEvicted
            claimed = [ClaimedItem(*row) for row in connection.execute(update)]
        return sorted(claimed, key=lambda item: item.position)

    def has_unfinished(self, batch_id: int) -> bool:
        """Return whether any item is waiting or claimed."""
        query = sa.select(ITEMS.c.position).where(
            ITEMS.c.batch_id == batch_id,
            ITEMS.c.state.in_([ItemState.WAITING, ItemState.CLAIMED]),
        )
        with self.store.transaction() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def register_worker(self, batch_id: int, worker: str, host: str, journal: str) -> None:
        """Register a worker of a batch; its lease begins now.

        Args:
            batch_id: The batch.
            worker: The worker's id.
            host: `qacli.batch.lease.WorkerLock.host` of its lock file.
            journal: The lock file's name.
        """
        values = {"uid": worker, "batch_id": batch_id, "host": host, "journal": journal}
        with self.store.transaction(write=True) as connection:
            connection.execute(sa.insert(BatchWorker).values(**values, seen_at=self._clock()))

    def register_again(
        self, batch_id: int, worker: str, host: str, journal: str, positions: Sequence[int]
    ) -> set[int]:
        """Register an evicted worker again; return the positions that it could claim again.

        Args:
            batch_id: The batch.
            worker: See `register_worker`.
            host: See `register_worker`.
            journal: See `register_worker`.
            positions: The positions of the items that it had claimed.
        """
        self.register_worker(batch_id, worker, host, journal)
        waiting = ITEMS.c.state == ItemState.WAITING
        update = (
            sa.update(ITEMS)
            .where(ITEMS.c.batch_id == batch_id, ITEMS.c.position.in_(positions), waiting)
            .values(state=ItemState.CLAIMED, worker=worker)
            .returning(ITEMS.c.position)
        )
        with self.store.transaction(write=True) as connection:
            return set(connection.scalars(update))

    def heartbeat(self, worker: str) -> bool:
        """Renew a worker's lease; return False if the worker was evicted."""
        with self.store.transaction(write=True) as connection:
            return self._renew(connection, worker)

    def _renew(self, connection: sa.Connection, worker: str) -> bool:
        query = sa.update(BatchWorker).where(col(BatchWorker.uid) == worker)
        return connection.execute(query.values(seen_at=self._clock())).rowcount > 0

    def workers(self, batch_id: int) -> list[tuple[BatchWorker, bool]]:
        """Return the workers of a batch, each with a flag: True if its lease has expired."""
        has_expired = self._clock() - col(BatchWorker.seen_at) > LEASE_SECONDS
        query = sa.select(BatchWorker, has_expired).where(col(BatchWorker.batch_id) == batch_id)
        with self.store.session() as session:
            return [(worker, bool(expired)) for worker, expired in session.execute(query)]

    def lock_names(self) -> set[str]:
        """Return the names of the lock files of all workers, of any batch."""
        with self.store.transaction() as connection:
            return set(connection.scalars(sa.select(col(BatchWorker.journal))))

    def evict(self, worker: BatchWorker) -> int:
        """Release the claims of a dead worker; return the number of items released.

        A worker that has renewed its lease since it was read keeps its claims.
        """
        unchanged = col(BatchWorker.seen_at) == worker.seen_at
        row = sa.delete(BatchWorker).where(col(BatchWorker.uid) == worker.uid, unchanged)
        with self.store.transaction(write=True) as connection:
            if not connection.execute(row).rowcount:
                return 0
            in_batch = ITEMS.c.batch_id == worker.batch_id
            return connection.execute(_release_items(in_batch, _claims_of(worker.uid))).rowcount

    def unregister_worker(self, worker: str) -> int:
        """Delete a worker and release its claims; return the number of items released."""
        released = self._release(_claims_of(worker))
        with self.store.transaction(write=True) as connection:
            connection.execute(sa.delete(BatchWorker).where(col(BatchWorker.uid) == worker))
        return released

    def _release(self, *conditions: sa.ColumnElement[bool]) -> int:
        with self.store.transaction(write=True) as connection:
            return connection.execute(_release_items(*conditions)).rowcount

    def _change(self, batch_id: int, **values: object) -> None:
        with self.store.transaction(write=True) as connection:
            connection.execute(sa.update(Batch).where(col(Batch.id) == batch_id).values(**values))

    def _clock(self) -> sa.ColumnElement[float]:
        """Return the database's time in seconds, the same for all machines that share a batch."""
        if self.store.sqlite:
            return sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Double())
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double())


def _claims_of(worker: str) -> sa.ColumnElement[bool]:
    return sa.and_(ITEMS.c.worker == worker, ITEMS.c.state == ItemState.CLAIMED)


def _release_items(*conditions: sa.ColumnElement[bool]) -> sa.Update:
    return sa.update(ITEMS).where(*conditions).values(state=ItemState.WAITING, worker=None)


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
