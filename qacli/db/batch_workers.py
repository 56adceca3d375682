"""The workers of a batch: their leases, their claims, and the budget that the claims reserve.

A worker reserves the likely cost of an item with the claim, and the record's cost is added to what
the batch has spent in the transaction that stores the record. The batch's row is locked for both,
so that all workers together reserve no more than the budget.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from qacli.batch_states import ItemState
from qacli.config.defaults import LEASE_SECONDS
from qacli.db.batch_results import BatchResults
from qacli.db.clock import database_seconds
from qacli.db.extra_models import USERS, WORKERS, BatchWorker
from qacli.db.models import BATCHES, ITEMS

RESERVED = sa.func.coalesce(sa.func.sum(ITEMS.c.reserved_usd), 0.0)


class WorkerEvicted(Exception):
    """The worker's lease has expired, and another worker has released its claims."""


class BudgetReached(Exception):
    """The next item would probably exceed the budget.

    Attributes:
        max_cost: The budget in US dollars.
    """

    def __init__(self, max_cost: float) -> None:
        super().__init__(max_cost)
        self.max_cost = max_cost


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """An item that a worker has claimed.

    Attributes:
        reserved: US dollars of the budget that are reserved for it; 0 without a budget.
    """

    position: int
    key: str
    payload: dict[str, Any]
    reserved: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker as other processes see it.

    Attributes:
        uid: Its id.
        machine: The id of its data directory and of the boot of its machine.
        label: The host's name and the process id, for a person.
        claimed: The number of items that it has claimed.
        in_flight: Its requests in flight at its last report.
        finished: The number of items that it had finished at its last report.
        running_seconds: The time since it was registered.
        seen_seconds: The time since it last renewed its lease.
        lease_seconds: The duration of its lease.
        learned_rate: Its part of the rate that the provider accepts, in requests a second; None if
            no limit is known.
    """

    uid: str
    machine: str
    label: str
    claimed: int
    in_flight: int
    finished: int
    running_seconds: float
    seen_seconds: float
    lease_seconds: float
    learned_rate: float | None


class BatchWorkers(BatchResults):
    """The workers of batches; `qacli.db.batches.Batches` adds the batches themselves."""

    def claim(
        self,
        batch_id: int,
        worker: str,
        limit: int,
        cost_of: Callable[[ClaimedItem], float] = lambda _item: 0.0,
    ) -> list[ClaimedItem]:
        """Claim the first waiting items for a worker, and renew its lease.

        Args:
            batch_id: The batch.
            worker: The worker's id.
            limit: The maximum number of items.
            cost_of: Returns the likely cost of an item in US dollars; used if there is a budget.

        Raises:
            WorkerEvicted: The worker's lease has expired, and its claims have been released.
            BudgetReached: An item is waiting, and the budget does not allow its cost.
        """
        # A common table expression: PostgreSQL may run a limited subquery once for each row.
        waiting = self._waiting(batch_id, limit).cte("waiting")
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
            # Lock the worker's row before its items, as in `evict`: another order could deadlock.
            if not self._renew(connection, worker):
                raise WorkerEvicted
            if (room := lock_budget(connection, batch_id)) is not None:
                return self._claim_within(
                    connection,
                    batch_id=batch_id,
                    worker=worker,
                    limit=limit,
                    cost_of=cost_of,
                    room=room[0],
                    max_cost=room[1],
                )
            claimed = [ClaimedItem(*row) for row in connection.execute(update)]
        return sorted(claimed, key=lambda item: item.position)

    def _waiting(self, batch_id: int, limit: int) -> sa.Select[Any]:
        return (
            sa.select(ITEMS.c.position, ITEMS.c.key, ITEMS.c.payload)
            .where(ITEMS.c.batch_id == batch_id, ITEMS.c.state == ItemState.WAITING)
            .order_by(ITEMS.c.position)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )

    def _claim_within(  # noqa: PLR0913 - all that a claim depends on
        self,
        connection: sa.Connection,
        *,
        batch_id: int,
        worker: str,
        limit: int,
        cost_of: Callable[[ClaimedItem], float],
        room: float,
        max_cost: float,
    ) -> list[ClaimedItem]:
        """Claim the first waiting items whose likely cost is within the budget.

        The first item of a batch is claimed in any case: the cost of an answer is not known yet.
        """
        items: list[ClaimedItem] = []
        is_first = 0 < room == max_cost
        for row in connection.execute(self._waiting(batch_id, limit)):
            item = ClaimedItem(*row)
            item = replace(item, reserved=cost_of(item))
            room -= item.reserved
            if room < 0 and not is_first:
                if not items:
                    raise BudgetReached(max_cost)
                break
            is_first = False
            items.append(item)
        claim_each(connection, batch_id, worker, {item.position: item.reserved for item in items})
        return items

    def reserve(
        self, batch_id: int, position: int, cost: float, release: Sequence[int] = ()
    ) -> bool:
        """Reserve this cost in all for a claimed item; return False if it exceeds the budget.

        Args:
            batch_id: The batch.
            position: The item's position.
            cost: US dollars, of all attempts on the item.
            release: The positions of items of the same worker that wait again from now on.
        """
        own = sa.and_(ITEMS.c.batch_id == batch_id, ITEMS.c.position == position)
        others = sa.and_(ITEMS.c.batch_id == batch_id, ITEMS.c.position.in_(release))
        with self.store.transaction(write=True) as connection:
            room = lock_budget(connection, batch_id)
            if release:
                connection.execute(release_items(others, ITEMS.c.state == ItemState.CLAIMED))
                room = lock_budget(connection, batch_id)
            if room is None:
                return True
            earlier = connection.scalar(sa.select(ITEMS.c.reserved_usd).where(own)) or 0.0
            if cost - earlier > room[0]:
                return False
            connection.execute(sa.update(ITEMS).where(own).values(reserved_usd=cost))
            return True

    def reserved(self, batch_id: int) -> float:
        """Return the US dollars that are reserved for claimed items."""
        with self.store.transaction() as connection:
            return connection.scalar(_reserved(batch_id)) or 0.0

    def has_unfinished(self, batch_id: int) -> bool:
        """Return whether any item is waiting or claimed."""
        query = sa.select(ITEMS.c.position).where(
            ITEMS.c.batch_id == batch_id,
            ITEMS.c.state.in_([ItemState.WAITING, ItemState.CLAIMED]),
        )
        with self.store.transaction() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def register_worker(  # noqa: PLR0913 - the columns of its row
        self,
        batch_id: int,
        worker: str,
        host: str,
        journal: str,
        *,
        label: str = "",
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Register a worker of a batch; its lease begins now.

        Args:
            batch_id: The batch.
            worker: The worker's id.
            host: `qacli.batch.lease.WorkerLock.host` of its lock file.
            journal: The lock file's name.
            label: The host's name and the process id, for a person.
            lease_seconds: The duration of its lease.
        """
        values = {"uid": worker, "batch_id": batch_id, "host": host, "journal": journal}
        values |= {"label": label, "lease_seconds": lease_seconds}
        values |= {"seen_at": self._clock(), "started_at": self._clock()}
        with self.store.transaction(write=True) as connection:
            connection.execute(sa.insert(BatchWorker).values(**values))

    def claim_again(self, batch_id: int, worker: str, positions: Sequence[int]) -> set[int]:
        """Claim the items of a worker that was evicted and registered again, if they still wait.

        Returns the positions of those that it could claim. Their reserved costs stay reserved.
        """
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
        has_expired = self._clock() - col(BatchWorker.seen_at) > col(BatchWorker.lease_seconds)
        query = sa.select(BatchWorker, has_expired).where(col(BatchWorker.batch_id) == batch_id)
        with self.store.session() as session:
            return [(worker, bool(expired)) for worker, expired in session.execute(query)]

    def worker_statuses(self, batch_id: int) -> list[WorkerStatus]:
        """Return the workers of a batch with the number of their claims, oldest first."""
        claims = sa.select(ITEMS.c.worker, sa.func.count()).where(
            ITEMS.c.batch_id == batch_id, ITEMS.c.state == ItemState.CLAIMED
        )
        used = (USERS.c.in_flight, USERS.c.finished, USERS.c.learned_rate)
        query = (
            sa.select(WORKERS, *used, self._clock().label("now"))
            .select_from(WORKERS.outerjoin(USERS, USERS.c.uid == WORKERS.c.uid))
            .where(WORKERS.c.batch_id == batch_id)
        )
        with self.store.transaction() as connection:
            rows = connection.execute(claims.group_by(ITEMS.c.worker))
            counts = {uid: count for uid, count in rows}  # noqa: C416 - rows
            workers = connection.execute(query.order_by(WORKERS.c.started_at)).all()
        return [
            WorkerStatus(
                uid=row.uid,
                machine=row.host.rpartition("/")[0],
                label=row.label,
                claimed=counts.get(row.uid, 0),
                in_flight=row.in_flight or 0,
                finished=row.finished or 0,
                running_seconds=row.now - row.started_at,
                seen_seconds=row.now - row.seen_at,
                lease_seconds=row.lease_seconds,
                learned_rate=row.learned_rate,
            )
            for row in workers
        ]

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
            return connection.execute(release_items(in_batch, claims_of(worker.uid))).rowcount

    def unregister_worker(self, worker: str) -> int:
        """Delete a worker and release its claims; return the number of items released."""
        released = self._release(claims_of(worker))
        with self.store.transaction(write=True) as connection:
            connection.execute(sa.delete(BatchWorker).where(col(BatchWorker.uid) == worker))
        return released

    def _release(self, *conditions: sa.ColumnElement[bool]) -> int:
        with self.store.transaction(write=True) as connection:
            return connection.execute(release_items(*conditions)).rowcount

    def _clock(self) -> sa.ColumnElement[float]:
        return database_seconds(sqlite=self.store.sqlite)


def lock_budget(connection: sa.Connection, batch_id: int) -> tuple[float, float] | None:
    """Lock the batch's row; return the rest of the budget, and the budget.

    Returns None without a lock if the batch has no budget.
    """
    own = BATCHES.c.id == batch_id
    if connection.scalar(sa.select(BATCHES.c.max_cost_usd).where(own)) is None:
        return None
    query = sa.select(BATCHES.c.max_cost_usd, BATCHES.c.spent_usd).where(own).with_for_update()
    max_cost, spent = connection.execute(query).one()
    reserved = connection.scalar(_reserved(batch_id))
    return max_cost - spent - reserved, max_cost


def claim_each(
    connection: sa.Connection, batch_id: int, worker: str, costs: Mapping[int, float]
) -> None:
    """Claim waiting items, and reserve the likely cost of each.

    Args:
        connection: An open transaction.
        batch_id: The batch.
        worker: The worker's id.
        costs: US dollars by the positions of the items.
    """
    update = (
        sa.update(ITEMS)
        .where(
            ITEMS.c.batch_id == batch_id,
            ITEMS.c.position == sa.bindparam("at"),
            ITEMS.c.state == ItemState.WAITING,
        )
        .values(state=ItemState.CLAIMED, worker=worker, reserved_usd=sa.bindparam("cost"))
    )
    if costs:
        rows = [{"at": position, "cost": cost} for position, cost in costs.items()]
        connection.execute(update, rows)


def _reserved(batch_id: int) -> sa.Select[tuple[float]]:
    claimed = ITEMS.c.state == ItemState.CLAIMED
    return sa.select(RESERVED).where(ITEMS.c.batch_id == batch_id, claimed)


def claims_of(worker: str) -> sa.ColumnElement[bool]:
    """Return the condition of the items that a worker has claimed."""
    return sa.and_(ITEMS.c.worker == worker, ITEMS.c.state == ItemState.CLAIMED)


def release_items(*conditions: sa.ColumnElement[bool]) -> sa.Update:
    """Return the statement that makes items wait again."""
    return sa.update(ITEMS).where(*conditions).values(state=ItemState.WAITING, worker=None)
