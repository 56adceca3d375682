"""The claims of one worker of a batch: the items that no other process may ask meanwhile.

Claims are valid as long as the worker's lease; see `qacli.batch.lease`.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
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
from qacli.db.batches import Batches, Claimed, WorkerEvicted
from qacli.errors import DatabaseError
from qacli.recording.outbox import Outbox
from qacli.recording.recovery import recover_outbox


class WorkerClaims:
    """The claims and the lease of this process.

    Args:
        batches: The database.
        outbox: The outbox, whose directory has the lock file.
        batch_id: The batch.
        database: The thread that calls the database.
        on_lost: Called with the keys of items that another worker has taken over.

    Raises:
        OutboxUnwritable: The lock file cannot be created.
    """

    def __init__(
        self,
        batches: Batches,
        outbox: Outbox,
        batch_id: int,
        *,
        database: DatabaseExecutor,
        on_lost: Callable[[set[str]], None],
    ) -> None:
        self._batches = batches
        self._outbox = outbox
        self._batch_id = batch_id
        self._database = database
        self._on_lost = on_lost
        self._worker = uuid4().hex
        self._lock = WorkerLock(outbox.directory, self._worker)
        self._registration = (batch_id, self._worker, self._lock.host, self._lock.name)
        self._items: dict[str, Claimed] = {}
        self._lease = Lease()
        self._renewing = asyncio.Lock()

    @property
    def are_valid(self) -> bool:
        """Whether no other worker can have taken the claims by now."""
        return self._lease.is_valid

    def has(self, item: Claimed) -> bool:
        """Return whether this very claim is still the worker's."""
        return self._items.get(item.key) is item

    def drop(self, keys: Iterable[str]) -> None:
        """Remove items that are stored, or that another worker has taken over."""
        for key in keys:
            self._items.pop(key, None)

    async def register(self) -> None:
        """Register the worker in the database."""
        await self._database.run(self._batches.register_worker, *self._registration)

    async def unregister(self) -> None:
        """Release all claims and the lock file.

        If the database cannot be used, the lock file stays, unlocked: it proves to the next worker
        that this one has ended.
        """
        is_unregistered = False
        try:
            with suppress(DatabaseError):
                await self._database.run(self._batches.unregister_worker, self._worker)
                is_unregistered = True
        finally:
            self._lock.close(left=is_unregistered)

    async def claim(self, limit: int) -> list[Claimed]:
        """Claim up to `limit` waiting items."""
        while True:
            try:
                items = await self._database.run(
                    self._batches.claim, self._batch_id, self._worker, limit
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
            arguments = (*self._registration, list(keys))
            reclaimed = await self._database.run(self._batches.rejoin, *arguments)
            lost = {key for position, key in keys.items() if position not in reclaimed}
            self.drop(lost)
            self._on_lost(lost)

    def _renew_lease(self) -> bool:
        sent_at = uptime()
        if is_registered := self._batches.heartbeat(self._worker):
            self._lease.renew(sent_at)
        return is_registered

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
