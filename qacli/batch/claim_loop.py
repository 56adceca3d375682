"""Claim the items of a batch for the tasks that ask them, and keep the claims valid."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from qacli.batch.budget import Budget
from qacli.batch.claims import WorkerClaims, describe_owners
from qacli.batch.database import DatabaseExecutor
from qacli.batch.lease import MARGIN
from qacli.batch.options import BatchOptions, StopReason
from qacli.batch.output import ResultOutput
from qacli.batch.progress import Progress
from qacli.batch.stop_signal import StopSignal
from qacli.db.batches import Batches, BudgetReached, ClaimedItem
from qacli.errors import DatabaseError, NotFound

PROGRESS_SECONDS = 4.0
POLL_SECONDS = 1.0
CLAIM_PAUSE_SECONDS = 0.1


class ClaimLoop:
    """Claims items as fast as this process asks them; see `run`.

    Args:
        claims: The claims of this process.
        batches: The database.
        database: The thread that calls it.
        options: The options of the batch.
        progress: Updated with the results of all processes.
        budget: Estimates the costs to reserve.
        output: The writer of the results.
        flush: Makes the recorder store its results.
        items: Gets the claimed items, and None for each consumer at the end.
        consumers: The number of tasks that read `items`.
        stop: Stops the run, and ends the pauses.
    """

    def __init__(  # noqa: PLR0913 - the parts of it, by name
        self,
        *,
        claims: WorkerClaims,
        batches: Batches,
        database: DatabaseExecutor,
        options: BatchOptions,
        progress: Progress,
        budget: Budget,
        output: ResultOutput,
        flush: Callable[[], None],
        items: asyncio.Queue[ClaimedItem | None],
        consumers: int,
        stop: StopSignal,
    ) -> None:
        self._claims = claims
        self._batches = batches
        self._database = database
        self._options = options
        self._progress = progress
        self._budget = budget
        self._output = output
        self._flush = flush
        self._items = items
        self._consumers = consumers
        self._stop = stop

    async def run(self) -> None:
        """Claim items for the workers, and take over the items of dead processes."""
        polled_at = monotonic()
        await self._claims.reclaim_stale()
        while not self._stop.is_set:
            if not self._output.has_reader:
                self._stop.set(
                    StopReason.OUTPUT_CLOSED, "the reader of the results has closed them"
                )
                break
            # Claim the items of about one second: other processes cannot ask claimed items.
            elapsed = max(monotonic() - self._progress.started, 1.0)
            limit = max(self._options.jobs, int(self._progress.finished_in_this_run / elapsed))
            items = await self._claim(limit)
            for item in items:
                await self._items.put(item)
            if items:
                self._progress.item_wait_reason = None
                continue
            if self._stop.is_set:
                break
            if not await self._database.run(self._batches.has_unfinished, self._options.batch_id):
                await self._stop_if_cancelled()
                await self._refresh_progress()
                break
            if monotonic() - polled_at >= POLL_SECONDS:
                polled_at = monotonic()
                await self._refresh_progress()
                await self._claims.reclaim_stale()
                owners = [] if self._claims.are_open else await self._claims.other_workers()
                self._progress.item_wait_reason = describe_owners(owners)
            if not self._progress.active_items:
                self._flush()
                await self._database.run(self._output.write)
            await self._stop.pause(CLAIM_PAUSE_SECONDS)
        for _ in range(self._consumers):
            await self._items.put(None)

    async def _claim(self, limit: int) -> list[ClaimedItem]:
        """Claim items; stop if the budget allows no item, and no request is in flight.

        The requests in flight may cost less than is reserved for them.
        """
        try:
            return await self._claims.claim(limit, self._budget.cost_of)
        except BudgetReached as reached:
            if not self._claims.are_open:
                budget = f"{reached.max_cost:g} US dollars"
                message = f"the budget of {budget} would be passed; give a larger one"
                self._stop.set(StopReason.BUDGET, message)
            return []

    async def heartbeat(self) -> None:
        """Renew the lease regularly, and stop if the batch was cancelled or removed."""
        while True:
            await asyncio.sleep(self._options.lease_seconds * MARGIN)
            with suppress(DatabaseError):
                await self._claims.renew()
                await self._stop_if_cancelled()

    async def _stop_if_cancelled(self) -> None:
        try:
            await self._database.run(self._batches.refuse_removed, self._options.batch_id)
            if await self._database.run(self._batches.is_cancelled, self._options.batch_id):
                self._stop.set(StopReason.CANCELLED, "cancelled by another process")
        except NotFound as error:
            self._stop.set(StopReason.ERROR, "removed by another process", error)

    async def poll(self) -> None:
        """Refresh the progress regularly."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            with suppress(DatabaseError):
                await self._refresh_progress()

    async def _refresh_progress(self) -> None:
        """Update the progress with the results of all processes."""
        self._progress.update(
            await self._database.run(self._batches.counts, self._options.batch_id)
        )
