"""Asks the items of a batch, as many side by side as the pace allows, in one event loop."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import replace
from time import monotonic
from typing import Any
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
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.options import BatchOptions, InFlightItem, Progress
from qacli.batch.output import SettledOutput
from qacli.batch.recorder import BatchRecorder
from qacli.batch.writer import ResultWriter
from qacli.cost import CostEstimate, Pricing, estimate_tokens
from qacli.db.batches import Batches, Claimed, WorkerEvicted
from qacli.domain import ChatRequest, Question, Status, Turn
from qacli.errors import DatabaseError, InvalidRequest, ProviderError, ProviderUnavailable, QaError
from qacli.json_schema import is_repairable, repair_prompt, validation_error
from qacli.provider.client import AsyncProvider
from qacli.provider.response import ChatResponse
from qacli.provider.retry import retry_delay
from qacli.recording.outbox import Outbox
from qacli.recording.recovery import recover_outbox

HEARTBEAT_SECONDS = 10.0
PROGRESS_SECONDS = 4.0
POLL_SECONDS = 1.0
CLAIM_PAUSE_SECONDS = 0.1
TOO_FAST = {429, 529}
"""The statuses of a provider that limits the rate; 503 with Retry-After is another."""

SEVERAL = 5
READER_GONE = "the reader of the results has closed them"


class BatchRunner:
    """Asks one batch in this process.

    Args:
        batches: The database.
        outbox: Where results wait for it.
        provider: Whom to ask.
        plan: What and how.
        prices: For the cost of each answer.
        output: Where results are written; None nowhere.
        progress: Kept up to date.
    """

    def __init__(  # noqa: PLR0913 - the parts of a run, by name
        self,
        *,
        batches: Batches,
        outbox: Outbox,
        provider: AsyncProvider,
        plan: BatchOptions,
        prices: Pricing,
        output: ResultWriter | None,
        progress: Progress,
    ) -> None:
        self.plan = plan
        self.progress = progress
        self.pace = AdaptiveLimiter(plan.jobs, rpm=plan.rpm, tpm=plan.tpm)
        self.worker = uuid4().hex
        self.stopped: QaError | None = None
        self._batches = batches
        self._outbox = outbox
        self._provider = provider
        self._prices = prices
        self._output = SettledOutput(batches, plan.batch_id, output, unordered=plan.unordered)
        self._recorder = BatchRecorder(
            batches=batches,
            outbox=outbox,
            options=plan,
            progress=progress,
            output=self._output,
            on_saved=self._forget,
            on_unsafe=self._stop_unsafe,
        )
        # A thread of their own: items must not run out while answers are being kept.
        self._claims = DatabaseExecutor(progress, plan.max_outage)
        self._items: asyncio.Queue[Claimed | None] = asyncio.Queue(plan.jobs)
        self._lock = WorkerLock(outbox.directory, self.worker)
        self._held: dict[str, Claimed] = {}
        self._lease = Lease()
        self._renewing = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._stop = asyncio.Event()
        self._priced = progress.done if progress.cost is not None else 0
        self._mean_cost = (progress.cost or 0.0) / max(self._priced, 1)
        self._heard_at, self._failed_in_a_row = monotonic(), 0

    async def run(self) -> None:
        """Ask until every item is settled, by this process or another, or until told to stop.

        Raises:
            ProviderError: Nothing can succeed until a person changes something: the key, say.
            DatabaseError: The database has been away for too long; the outbox has the results.
        """
        left = False
        try:
            await self._claims.run(self._batches.register_worker, *self._registration)
            await self._claims.run(self._output.write)
            await self._ask_all()
            # What another process has settled since.
            await self._claims.run(self._output.write)
        finally:
            # Whatever ends it, what is claimed is given back, and what is kept is dropped. Where
            # the database is away, the next worker finds the lock file free.
            self._claims.stop()
            with contextlib.suppress(DatabaseError):
                await self._claims.run(self._batches.unregister_worker, self.worker)
                left = True
            self._lock.close(left=left)
            self._claims.close()
            self._recorder.close()

    @property
    def _registration(self) -> tuple[int, str, str, str]:
        return (self.plan.batch_id, self.worker, self._lock.host, self._lock.name)

    def stop(self, why: QaError | None, what: str) -> None:
        """Ask nothing new; what is in flight gets the plan's grace."""
        if not self._stop.is_set():
            self.stopped = why
            self.progress.stopping = what
            self._stop.set()
            self._freed.set()

    def _stop_unsafe(self, error: DatabaseError) -> None:
        """Ask nothing more: an answer could not be kept."""
        why = DatabaseError(
            f"Answers could not be kept for a while, and asking has stopped: {error.what}",
            "Make room on the disk and run the same command again; nothing is lost.",
        )
        self.stop(why, "the answers cannot be kept")

    async def _ask_all(self) -> None:
        writer = asyncio.create_task(self._recorder.wait_until_ended())
        works = (self._claim_loop(), self._heartbeat(), self._poll())
        helpers = [asyncio.create_task(work) for work in works]
        workers = [asyncio.create_task(self._worker()) for _ in range(self.plan.jobs)]
        try:
            await self._until_done(workers, [writer, *helpers])
        finally:
            for task in (*workers, *helpers):
                task.cancel()
            await asyncio.gather(*workers, *helpers, return_exceptions=True)
            self._recorder.end()
            await writer

    async def _until_done(
        self, workers: list[asyncio.Task[None]], others: list[asyncio.Task[None]]
    ) -> None:
        """Until the workers have no more to do, or the grace after a stop is over."""
        stop = asyncio.create_task(self._stop.wait())
        try:
            left: set[asyncio.Task[Any]] = {stop, *workers, *others}
            while left & set(workers):
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if stop in done:
                    await asyncio.wait(workers, timeout=self.plan.grace)
                    return
        finally:
            stop.cancel()

    async def _claim_loop(self) -> None:
        """Claim items for the workers, and take over those of processes that have ended."""
        batch_id, looked = self.plan.batch_id, monotonic()
        await self._claims.run(reclaim_stale, self._batches, self._outbox, batch_id)
        while not self._stop.is_set():
            if not self._output.has_reader:
                self.stop(None, READER_GONE)
                break
            if claimed := await self._claim():
                for item in claimed:
                    await self._items.put(item)
                continue
            if not await self._claims.run(self._batches.has_unfinished, batch_id):
                await self._refresh_progress()
                break
            if monotonic() - looked >= POLL_SECONDS:
                looked = monotonic()
                await self._refresh_progress()
                await self._claims.run(reclaim_stale, self._batches, self._outbox, batch_id)
            if not self.progress.flights:
                self._recorder.flush()
                await self._claims.run(self._output.write)
            await self._pause(CLAIM_PAUSE_SECONDS)
        for _ in range(self.plan.jobs):
            await self._items.put(None)

    async def _claim(self) -> list[Claimed]:
        """Claim about a second's worth of items: what is claimed here, no other process asks."""
        elapsed = max(monotonic() - self.progress.started, 1.0)
        limit = max(self.plan.jobs, int(self.progress.this_run / elapsed))
        while True:
            try:
                arguments = (self.plan.batch_id, self.worker, limit)
                claimed = await self._claims.run(self._batches.claim, *arguments)
            except WorkerEvicted:
                await self._renew_lease()
            else:
                self._held.update((item.key, item) for item in claimed)
                return claimed

    async def _renew_lease(self) -> None:
        """Renew this worker's lease; where it was evicted, claim again what still waits.

        The items that another worker has taken over meanwhile are given up: those not yet sent
        are dropped, and the flights of the others end without a result.
        """
        async with self._renewing:
            if not await self._claims.run(self._beat_once):
                held = {item.position: item.key for item in self._held.values()}
                arguments = (*self._registration, list(held))
                again = await self._claims.run(self._batches.rejoin, *arguments)
                lost = {key for position, key in held.items() if position not in again}
                self._forget(lost)
                for flight in self.progress.flights.values():
                    if flight.key in lost and not flight.lost:
                        flight.lost = True
                        if flight.task not in {None, asyncio.current_task()}:
                            flight.cancelled = flight.task.cancel()

    def _forget(self, keys: Iterable[str]) -> None:
        """Note that items are no longer this worker's: they are kept, or were given up."""
        for key in keys:
            self._held.pop(key, None)

    def _beat_once(self) -> bool:
        sent_at = uptime()
        if alive := self._batches.heartbeat(self.worker):
            self._lease.renew(sent_at)
        return alive

    async def _heartbeat(self) -> None:
        """Renew the lease again and again, and learn whether the batch was cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with contextlib.suppress(DatabaseError):
                await self._renew_lease()
                if await self._claims.run(self._batches.is_cancelled, self.plan.batch_id):
                    self.stop(None, "cancelled by another process")

    async def _poll(self) -> None:
        """Keep the progress that of the whole batch."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            with contextlib.suppress(DatabaseError):
                await self._refresh_progress()

    async def _refresh_progress(self) -> None:
        """Learn how far the batch is: others may ask of it, too."""
        self.progress.update(await self._claims.run(self._batches.counts, self.plan.batch_id))

    async def _worker(self) -> None:
        """One of the jobs: an item at a time, until there are no more."""
        while (item := await self._items.get()) is not None:
            if self._stop.is_set() or self._held.get(item.key) is not item:
                continue  # claimed, but not asked: it is given back at the end, or was already
            try:
                ask = self._ask_of(item)
            except InvalidRequest as error:
                ask = Question(
                    question=item.payload["question"],
                    batch_id=self.plan.batch_id,
                    item_key=item.key,
                )
                await self._finish(ask, ChatResponse(), error)
                continue
            task = asyncio.current_task()
            flight = InFlightItem(item.key, monotonic(), task)
            self.progress.flights[id(item)] = flight
            try:
                await self._ask(ask, flight)
            except asyncio.CancelledError:
                if not flight.lost or task is None:
                    raise
                # What remains is a request to end that has nothing to do with the lost claim.
                if (task.uncancel() if flight.cancelled else task.cancelling()) > 0:
                    raise
            finally:
                del self.progress.flights[id(item)]

    def _ask_of(self, item: Claimed) -> Question:
        payload, plan = item.payload, self.plan
        if "error" in payload:
            raise InvalidRequest(payload["error"])
        return Question(
            question=payload["question"],
            system=payload.get("system", plan.system),
            params={"model": plan.model, **plan.params, **payload.get("params", {})},
            tags=payload.get("tags", []),
            batch_id=plan.batch_id,
            item_key=item.key,
        )

    async def _ask(self, ask: Question, flight: InFlightItem) -> None:
        """Ask one item until it is answered, or will not be."""
        reply = ChatResponse()
        error: QaError | None = None
        try:
            while not self._stop.is_set():
                error = await self._ask_with_repair(ask, reply, flight)
                delay = retry_delay(
                    error, flight.attempt, self.plan.retries, waits_for_provider=False
                )
                if delay is None or self._is_gone(error):
                    break
                self.progress.retried += 1
                flight.attempt, flight.waiting = flight.attempt + 1, True
                await self._pause(delay)
                flight.waiting = False
        except asyncio.CancelledError:
            if flight.sent and not flight.lost:
                await self._finish(ask, reply, None)
            raise
        if isinstance(error, ProviderError) and (error.fatal or self._is_gone(error)):
            self.stop(error, error.what)
            await self._finish(ask, reply, error, status=Status.INTERRUPTED)
        elif self._stop.is_set() and error is not None and getattr(error, "retryable", False):
            await self._finish(ask, reply, None)
        elif reply.answered_at is not None or error is not None or flight.correction:
            await self._finish(ask, reply, error)

    async def _ask_with_repair(
        self, ask: Question, reply: ChatResponse, flight: InFlightItem
    ) -> QaError | None:
        """Ask once, and once more where the answer does not fit; returns why there is none."""
        asked = replace(ask, question=flight.correction) if flight.correction else ask
        error = await self._ask_once(asked, reply, flight)
        if error is not None or reply.answered_at is None:
            return error
        unfit = validation_error(ask.params, reply.text)
        if unfit is None or flight.correction or self._stop.is_set():
            return unfit
        if not is_repairable(unfit, reply.finish_reason):
            return unfit
        self.progress.retried += 1
        flight.turns.append(Turn(ask.question, reply.text))
        flight.correction = repair_prompt(unfit)
        flight.paid = reply.outcome(self._prices).cost_usd or 0.0
        reply.discard()
        return await self._ask_with_repair(ask, reply, flight)

    async def _ask_once(
        self, ask: Question, reply: ChatResponse, flight: InFlightItem
    ) -> QaError | None:
        """Ask once, when it is its turn; returns why there is no answer."""
        tokens = estimate_tokens(ask.question) + int(ask.params.get("max_tokens") or 0)
        async with self._turn:
            while not self._stop.is_set() and (delay := self.pace.delay()) != 0:
                if delay is None:
                    self._freed.clear()
                    await self._freed.wait()
                else:
                    await self._pause(min(delay, POLL_SECONDS))
            await self._until_safe(flight)
            if self._stop.is_set() or self._too_expensive(ask, flight):
                return None
            flight.sent = True
            self.pace.on_sent(tokens)
        try:
            deadline = asyncio.get_running_loop().time() + self.plan.timeout
            request = ChatRequest(question=ask, turns=flight.turns, stream=False)
            await self._provider.attempt(request, reply, deadline)
        except ProviderError as error:
            self._failed_in_a_row += 1
            told = error.retry_after is not None
            if error.provider_status in TOO_FAST or (
                told and isinstance(error, ProviderUnavailable)
            ):
                self.pace.on_throttled(error.what, error.retry_after, reply.headers)
            if len(self.progress.errors) == 0 or self.progress.errors[-1] != error.what:
                self.progress.errors.append(error.what)
            return error
        else:
            used = reply.used_tokens
            self._heard_at, self._failed_in_a_row = monotonic(), 0
            self.pace.on_success(reply.headers, estimated=tokens, used=used)
            return None
        finally:
            self.pace.on_finished()
            self._freed.set()

    async def _until_safe(self, flight: InFlightItem) -> None:
        """Wait until all results are kept somewhere and this worker's claims are known to hold.

        Raises:
            CancelledError: The flight's own claim was lost.
        """
        while not self._recorder.is_safe and not self._stop.is_set():
            await self._pause(CLAIM_PAUSE_SECONDS)
        while not self._lease.is_valid and not self._stop.is_set():
            await self._renew_lease()
        if flight.lost:
            raise asyncio.CancelledError

    def _is_gone(self, error: QaError | None) -> bool:
        """Return whether no item has been answered for so long that the provider is away."""
        if not isinstance(error, ProviderError) or not error.retryable:
            return False
        long = monotonic() - self._heard_at > self.plan.max_outage
        return long and self._failed_in_a_row >= SEVERAL

    def _too_expensive(self, ask: Question, flight: InFlightItem) -> bool:
        """Whether this question could pass the budget; then nothing more is asked."""
        limit = self.plan.max_cost
        if limit is None:
            return False
        flight.cost = flight.paid + self._likely_cost(ask)
        in_flight = sum(each.cost for each in self.progress.flights.values())
        if (self.progress.cost or 0.0) + in_flight <= limit:
            return False
        flight.cost = 0.0
        self.stop(None, f"the budget of {limit:g} US dollars would be passed; give a larger one")
        return True

    def _likely_cost(self, ask: Question) -> float:
        """From the question's length, and the token limit or what answers have cost so far."""
        limit = ask.params.get("max_tokens")
        estimate = CostEstimate.of_prompt(ask.question, ask.system or "", max_tokens=limit)
        return max(
            estimate.cost(ask.model, self._prices, self._provider.endpoint.name) or 0.0,
            self._mean_cost,
        )

    async def _finish(
        self,
        ask: Question,
        reply: ChatResponse,
        error: QaError | None,
        status: Status | None = None,
    ) -> None:
        """Note what has become of an item, and hand it to the writer."""
        outcome = reply.outcome(self._prices)
        if outcome.status is not Status.ANSWERED or error is not None:
            outcome.fail(error)
            outcome.status = status or outcome.status
        progress = self.progress
        progress.this_run += 1
        if outcome.status is Status.ANSWERED:
            progress.done += 1
        elif outcome.status is Status.FAILED:
            progress.failed += 1
        progress.tokens += (outcome.prompt_tokens or 0) + (outcome.completion_tokens or 0)
        if outcome.cost_usd is not None:
            progress.cost = (progress.cost or 0.0) + outcome.cost_usd
            self._priced += 1
            self._mean_cost += (outcome.cost_usd - self._mean_cost) / self._priced
        await self._recorder.enqueue(ask, outcome)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until told to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def reclaim_stale(batches: Batches, outbox: Outbox, batch_id: int) -> int:
    """Give back what dead workers had claimed, with their results delivered first.

    Returns how many items wait again. A worker is dead when its lock file proves it, or when its
    lease is over by the database's clock; see `qacli.batch.lease`.
    """
    released = 0
    for worker, silent in batches.workers(batch_id):
        if silent or is_proven_dead(outbox.directory, worker.host, worker.journal):
            recover_outbox(outbox, batches.store)
            released += batches.evict(worker)
            if not silent:
                remove_lock(outbox.directory, worker.journal)
    remove_stale_locks(outbox.directory, batches.lock_names())
    return released
