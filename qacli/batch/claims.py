"""The claims of one worker of a batch: the items that no other process may ask meanwhile.

Claims are valid as long as the worker's lease; see `qacli.batch.lease`.
"""

import asyncio
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypedDict
from uuid import uuid4

from qacli.batch.database import DatabaseExecutor
from qacli.batch.lease import (
    Lease,
    WorkerLock,
    is_proven_dead,
    remove_lock,
    remove_stale_locks,
    uptime,
)
from qacli.db.batches import Batches, ClaimedItem, WorkerEvicted, WorkerStatus
from qacli.db.models import Batch
from qacli.errors import DatabaseError, InvalidRequest
from qacli.recording.outbox import Outbox
from qacli.recording.recovery import recover_outbox

MAX_NAMED = 3
"""Maximum number of other workers in a message."""


class _Terms(TypedDict):
    label: str
    lease_seconds: float


class WorkerClaims:
    """The claims and the lease of this process.

    Args:
        batches: The database.
        outbox: The outbox, whose directory has the lock file.
        batch_id: The batch.
        database: The thread that calls the database.
        lease_seconds: The duration of the lease.
        on_lost: Called with the keys of items that another worker has taken over.

    Attributes:
        worker: The worker's id.

    Raises:
        OutboxUnwritable: The lock file cannot be created.
    """

    def __init__(  # noqa: PLR0913 - the parts of it, by name
        self,
        batches: Batches,
        outbox: Outbox,
        batch_id: int,
        *,
        database: DatabaseExecutor,
        lease_seconds: float,
        on_lost: Callable[[set[str]], None],
    ) -> None:
        self._batches = batches
        self._outbox = outbox
        self._batch_id = batch_id
        self._database = database
        self._on_lost = on_lost
        self.worker = uuid4().hex
        self._lock = WorkerLock(outbox.directory, self.worker)
        self._registration = (batch_id, self.worker, self._lock.host, self._lock.name)
        self._terms: _Terms = {
            "label": f"{platform.node()}:{os.getpid()}",
            "lease_seconds": lease_seconds,
        }
        self._items: dict[str, ClaimedItem] = {}
        self._lease = Lease(lease_seconds)
        self._renewing = asyncio.Lock()

    @property
    def are_valid(self) -> bool:
        """True as long as no other worker can take over the claims."""
        return self._lease.is_valid

    def has(self, item: ClaimedItem) -> bool:
        """Return whether this very claim is still the worker's."""
        return self._items.get(item.key) is item

    def drop(self, keys: Iterable[str]) -> None:
        """Remove items that are stored, or that another worker has taken over."""
        for key in keys:
            self._items.pop(key, None)

    def drop_all_but(self, key: str) -> dict[str, int]:
        """Remove all items but one; return their positions by key."""
        others = {item.key: item.position for item in self._items.values() if item.key != key}
        self.drop(others)
        return others

    async def register(self) -> None:
        """Register the worker in the database."""
        register = partial(self._batches.register_worker, **self._terms)
        await self._database.run(register, *self._registration)

    async def unregister(self) -> None:
        """Release all claims and the lock file.

        If the database cannot be used, the lock file stays, unlocked: it proves to the next worker
        that this one has ended.
        """
        is_unregistered = False
        try:
            with suppress(DatabaseError):
                await self._database.run(self._batches.unregister_worker, self.worker)
                is_unregistered = True
        finally:
            self._lock.close(left=is_unregistered)

    @property
    def are_open(self) -> bool:
        """True if the worker has items that are not stored yet."""
        return bool(self._items)

    async def claim(self, limit: int, cost_of: Callable[[ClaimedItem], float]) -> list[ClaimedItem]:
        """Claim up to `limit` waiting items; see `Batches.claim`.

        Raises:
            BudgetReached: An item is waiting, and the budget does not allow its cost.
        """
        while True:
            try:
                items = await self._database.run(
                    self._batches.claim, self._batch_id, self.worker, limit, cost_of
                )
            except WorkerEvicted:
                await self.renew()
            else:
                self._items.update((item.key, item) for item in items)
                return items

    async def renew(self) -> None:
        """Renew the lease; if the worker was evicted, claim its items again that still wait.

        The others were taken over by another worker: they are dropped, and `on_lost` is called.
        """
        async with self._renewing:
            if await self._database.run(self._renew_lease):
                return
            keys = {item.position: item.key for item in self._items.values()}
            await self.register()
            reclaimed = await self._database.run(
                self._batches.claim_again, self._batch_id, self.worker, list(keys)
            )
            lost = {key for position, key in keys.items() if position not in reclaimed}
            self.drop(lost)
            self._on_lost(lost)

    def _renew_lease(self) -> bool:
        sent_at = uptime()
        if is_registered := self._batches.heartbeat(self.worker):
            self._lease.renew(sent_at)
        return is_registered

    async def other_workers(self) -> list[WorkerStatus]:
        """Return the other workers that have claimed items of the batch."""
        workers = await self._database.run(self._batches.worker_statuses, self._batch_id)
        return [worker for worker in workers if worker.claimed and worker.uid != self.worker]

    async def reclaim_stale(self) -> int:
        """Release the claims of dead workers; see `reclaim_stale`."""
        return await self._database.run(reclaim_stale, self._batches, self._outbox, self._batch_id)


def reclaim_stale(batches: Batches, outbox: Outbox, batch_id: int) -> int:
    """Release the claims of dead workers, after their results were delivered.

    Returns the number of items released. A worker is dead if its lock file proves it, or if its
    lease has expired by the database's clock; see `qacli.batch.lease`.
    """
    released = 0
    for worker, has_expired in batches.workers(batch_id):
        if has_expired or is_proven_dead(outbox.directory, worker.host, worker.journal):
            recover_outbox(outbox, batches.store)
            released += batches.evict(worker)
            if not has_expired:
                remove_lock(outbox.directory, worker.journal)
    remove_stale_locks(outbox.directory, batches.lock_names())
    return released


def refuse_open_parts(batches: Batches, batch: Batch) -> None:
    """Check that no questions of a batch are at the provider's Batch API.

    Raises:
        InvalidRequest: Some questions are at the Batch API.
    """
    if batches.open_parts().get(batch.id or 0):
        raise InvalidRequest(
            f"Questions of {batch.name} are at the provider's Batch API.",
            f"Collect them first: qa batch collect {batch.name}; or end them: qa batch cancel "
            f"{batch.name}",
        )


def refuse_workers(batches: Batches, outbox: Outbox, batch: Batch) -> None:
    """Check that no process asks the questions of a batch; the claims of dead ones are released.

    Raises:
        InvalidRequest: A process works on the batch, or its lease has not expired yet.
    """
    reclaim_stale(batches, outbox, batch.id or 0)
    if workers := batches.worker_statuses(batch.id or 0):
        labels = ", ".join(worker.label for worker in workers[:MAX_NAMED])
        raise InvalidRequest(
            f"{batch.name} is being asked, by {labels}.",
            f"Stop it first: qa batch cancel {batch.name}; or remove it with --force.",
        )


def describe_owners(workers: Sequence[WorkerStatus]) -> str | None:
    """Return a sentence on the workers that have the last items; None if no worker has any."""
    if not workers:
        return None
    names = "; ".join(
        f"{worker.label} has {worker.claimed:,}, last seen {worker.seen_seconds:.0f} s ago"
        for worker in workers[:MAX_NAMED]
    )
    more = f"; and {len(workers) - MAX_NAMED} more" if len(workers) > MAX_NAMED else ""
    return f"waiting for the items of other workers: {names}{more}"
