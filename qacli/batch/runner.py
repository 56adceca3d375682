"""Ask the items of a batch concurrently, in one event loop, as fast as the limiter allows."""

import asyncio
import contextlib
from dataclasses import replace
from time import monotonic
from typing import Any

from qacli.batch.budget import Budget
from qacli.batch.claims import WorkerClaims
from qacli.batch.database import DatabaseExecutor
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.options import BatchOptions, InFlightItem, Progress, StopReason
from qacli.batch.output import SettledOutput
from qacli.batch.recorder import BatchRecorder
from qacli.batch.writer import ResultWriter
from qacli.cost import Pricing, estimate_tokens
from qacli.db.batches import Batches, Claimed
from qacli.domain import ChatRequest, Question, Status, Turn
from qacli.errors import DatabaseError, InvalidRequest, ProviderError, ProviderUnavailable, QaError
from qacli.json_schema import is_repairable, repair_prompt, validation_error
from qacli.provider.client import AsyncProvider
from qacli.provider.response import ChatResponse
from qacli.provider.retry import retry_delay
from qacli.recording.outbox import Outbox

HEARTBEAT_SECONDS = 10.0
PROGRESS_SECONDS = 4.0
POLL_SECONDS = 1.0
CLAIM_PAUSE_SECONDS = 0.1
RATE_LIMIT_STATUSES = {429, 529}
"""The statuses of a provider that limits the rate; 503 with Retry-After is another."""

MIN_FAILURES = 5
"""Consecutive failures without which an outage is not assumed."""


class BatchRunner:
    """Asks one batch in this process.

    Args:
        batches: The database.
        outbox: The directory of the journals.
        provider: The provider of the answers.
        plan: The options of the batch.
        prices: The prices, for the cost of each answer.
        output: The writer of the results; None writes none.
        progress: Updated during the run.

    Attributes:
        stop_reason: The reason why the run has stopped early; None if it has not.
        stopped: The error that has stopped the run; None if no error has.
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
        self.stop_reason: StopReason | None = None
        self.stopped: QaError | None = None
        self._batches = batches
        self._provider = provider
        self._prices = prices
        self._output = SettledOutput(batches, plan.batch_id, output, unordered=plan.unordered)
        # A thread of its own: claims must not wait while the recorder writes to the database.
        self._database = DatabaseExecutor(progress, plan.max_outage)
        self._claims = WorkerClaims(
            batches, outbox, plan.batch_id, database=self._database, on_lost=self._end_lost
        )
        self._recorder = BatchRecorder(
            batches=batches,
            outbox=outbox,
            options=plan,
            progress=progress,
            output=self._output,
            on_saved=self._claims.drop,
            on_unsafe=self._stop_unsafe,
        )
        self._items: asyncio.Queue[Claimed | None] = asyncio.Queue(plan.jobs)
        self._send_lock = asyncio.Lock()
        self._window_changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._budget = Budget(plan.max_cost, prices, progress)
        self._answered_at, self._consecutive_failures = monotonic(), 0

    async def run(self) -> None:
        """Ask until every item is settled, by this process or another, or until `stop` is called.

        Raises:
            ProviderError: No question can succeed until a setting, such as the key, is changed.
            DatabaseError: The database could not be reached in time; the outbox has the results.
        """
        try:
            await self._claims.register()
            await self._database.run(self._output.write)
            await self._ask_all()
            # The items that another process has settled since.
            await self._database.run(self._output.write)
        finally:
            # Try the database once more only, and release the claims in every case.
            self._database.stop()
            await self._claims.unregister()
            self._database.close()
            self._recorder.close()

    def stop(self, reason: StopReason, message: str, error: QaError | None = None) -> None:
        """Send no more questions; those in flight get `BatchOptions.grace` seconds."""
        if not self._stop.is_set():
            self.stop_reason = reason
            self.stopped = error
            self.progress.stopping = message
            self._stop.set()
            self._window_changed.set()

    def _stop_unsafe(self, cause: DatabaseError) -> None:
        """Stop, because an answer could not be stored."""
        error = DatabaseError(
            f"Answers could not be stored for a while, and asking has stopped: {cause.what}",
            "Make room on the disk and run the same command again; nothing is lost.",
        )
        self.stop(StopReason.ERROR, "the answers cannot be stored", error)

    async def _ask_all(self) -> None:
        recorder = asyncio.create_task(self._recorder.wait_until_ended())
        coroutines = (self._claim_loop(), self._heartbeat(), self._poll())
        helpers = [asyncio.create_task(coroutine) for coroutine in coroutines]
        workers = [asyncio.create_task(self._worker()) for _ in range(self.plan.jobs)]
        try:
            await self._wait_for(workers, [recorder, *helpers])
        finally:
            for task in (*workers, *helpers):
                task.cancel()
            await asyncio.gather(*workers, *helpers, return_exceptions=True)
            self._recorder.end()
            await recorder

    async def _wait_for(
        self, workers: list[asyncio.Task[None]], others: list[asyncio.Task[None]]
    ) -> None:
        """Wait until the workers have ended, or the grace period after a stop is over."""
        stop = asyncio.create_task(self._stop.wait())
        try:
            pending: set[asyncio.Task[Any]] = {stop, *workers, *others}
            while pending & set(workers):
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if stop in done:
                    await asyncio.wait(workers, timeout=self.plan.grace)
                    return
        finally:
            stop.cancel()

    async def _claim_loop(self) -> None:
        """Claim items for the workers, and take over the items of dead processes."""
        polled_at = monotonic()
        await self._claims.reclaim_stale()
        while not self._stop.is_set():
            if not self._output.has_reader:
                self.stop(StopReason.OUTPUT_CLOSED, "the reader of the results has closed them")
                break
            # About a second's worth of items: other processes cannot ask what is claimed here.
            elapsed = max(monotonic() - self.progress.started, 1.0)
            limit = max(self.plan.jobs, int(self.progress.this_run / elapsed))
            if items := await self._claims.claim(limit):
                for item in items:
                    await self._items.put(item)
                continue
            if not await self._database.run(self._batches.has_unfinished, self.plan.batch_id):
                await self._refresh_progress()
                break
            if monotonic() - polled_at >= POLL_SECONDS:
                polled_at = monotonic()
                await self._refresh_progress()
                await self._claims.reclaim_stale()
            if not self.progress.flights:
                self._recorder.flush()
                await self._database.run(self._output.write)
            await self._pause(CLAIM_PAUSE_SECONDS)
        for _ in range(self.plan.jobs):
            await self._items.put(None)

    def _end_lost(self, keys: set[str]) -> None:
        """Cancel the flights of items that another worker has taken over."""
        for flight in self.progress.flights.values():
            if flight.key in keys and not flight.lost:
                flight.lost = True
                if flight.task not in {None, asyncio.current_task()}:
                    flight.cancelled = flight.task.cancel()

    async def _heartbeat(self) -> None:
        """Renew the lease regularly, and stop if another process has cancelled the batch."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with contextlib.suppress(DatabaseError):
                await self._claims.renew()
                if await self._database.run(self._batches.is_cancelled, self.plan.batch_id):
                    self.stop(StopReason.CANCELLED, "cancelled by another process")

    async def _poll(self) -> None:
        """Refresh the progress regularly."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            with contextlib.suppress(DatabaseError):
                await self._refresh_progress()

    async def _refresh_progress(self) -> None:
        """Update the progress with the results of all processes."""
        self.progress.update(await self._database.run(self._batches.counts, self.plan.batch_id))

    async def _worker(self) -> None:
        """Ask one item after the other, until there are no more."""
        while (item := await self._items.get()) is not None:
            if self._stop.is_set() or not self._claims.has(item):
                continue  # the claim is released at the end, or was lost
            try:
                question = self.plan.question(item.key, item.payload)
            except InvalidRequest as error:
                question = Question(
                    question=item.payload["question"],
                    batch_id=self.plan.batch_id,
                    item_key=item.key,
                )
                await self._finish(question, ChatResponse(), error)
                continue
            task = asyncio.current_task()
            flight = InFlightItem(item.key, monotonic(), task)
            self.progress.flights[id(item)] = flight
            try:
                await self._ask(question, flight)
            except asyncio.CancelledError:
                if not flight.lost or task is None:
                    raise
                # Remove the cancellation by `_end_lost`; any other one ends the worker.
                if (task.uncancel() if flight.cancelled else task.cancelling()) > 0:
                    raise
            finally:
                del self.progress.flights[id(item)]

    async def _ask(self, question: Question, flight: InFlightItem) -> None:
        """Ask one item, with retries, and record its outcome."""
        response = ChatResponse()
        error: QaError | None = None
        try:
            while not self._stop.is_set():
                error = await self._ask_with_repair(question, response, flight)
                delay = retry_delay(
                    error, flight.attempt, self.plan.retries, waits_for_provider=False
                )
                if delay is None or self._is_outage(error):
                    break
                self.progress.retried += 1
                flight.attempt, flight.waiting = flight.attempt + 1, True
                await self._pause(delay)
                flight.waiting = False
        except asyncio.CancelledError:
            if flight.sent and not flight.lost:
                await self._finish(question, response, None)
            raise
        if isinstance(error, ProviderError) and (error.fatal or self._is_outage(error)):
            self.stop(StopReason.ERROR, error.what, error)
            await self._finish(question, response, error, status=Status.INTERRUPTED)
        elif self._stop.is_set() and error is not None and getattr(error, "retryable", False):
            await self._finish(question, response, None)
        elif response.answered_at is not None or error is not None or flight.correction is not None:
            await self._finish(question, response, error)

    async def _ask_with_repair(
        self, question: Question, response: ChatResponse, flight: InFlightItem
    ) -> QaError | None:
        """Ask once, and once more if the answer does not fit its schema; return the error."""
        sent = question
        if flight.correction is not None:
            sent = replace(question, question=flight.correction)
        error = await self._ask_once(sent, response, flight)
        if error is not None or response.answered_at is None:
            return error
        schema_error = validation_error(question.params, response.text)
        if schema_error is None or flight.correction is not None or self._stop.is_set():
            return schema_error
        if not is_repairable(schema_error, response.finish_reason):
            return schema_error
        self.progress.retried += 1
        flight.turns.append(Turn(question.question, response.text))
        flight.correction = repair_prompt(schema_error)
        flight.paid = response.outcome(self._prices).cost_usd or 0.0
        response.discard()
        return await self._ask_with_repair(question, response, flight)

    async def _ask_once(
        self, question: Question, response: ChatResponse, flight: InFlightItem
    ) -> QaError | None:
        """Send a question once the limiter allows it; return the error if there is no answer."""
        tokens = estimate_tokens(question.question) + int(question.params.get("max_tokens") or 0)
        async with self._send_lock:
            while not self._stop.is_set() and (delay := self.pace.delay()) != 0:
                if delay is None:
                    self._window_changed.clear()
                    await self._window_changed.wait()
                else:
                    await self._pause(min(delay, POLL_SECONDS))
            await self._wait_until_safe(flight)
            if self._stop.is_set():
                return None
            if not self._budget.reserve(question, flight):
                limit = f"{self.plan.max_cost:g} US dollars"
                message = f"the budget of {limit} would be passed; give a larger one"
                self.stop(StopReason.BUDGET, message)
                return None
            flight.sent = True
            self.pace.on_sent(tokens)
        try:
            deadline = asyncio.get_running_loop().time() + self.plan.timeout
            request = ChatRequest(question=question, turns=flight.turns, stream=False)
            await self._provider.attempt(request, response, deadline)
        except ProviderError as error:
            self._consecutive_failures += 1
            is_delayed = error.retry_after is not None and isinstance(error, ProviderUnavailable)
            if is_delayed or error.provider_status in RATE_LIMIT_STATUSES:
                self.pace.on_throttled(error.what, error.retry_after, response.headers)
            if len(self.progress.errors) == 0 or self.progress.errors[-1] != error.what:
                self.progress.errors.append(error.what)
            return error
        else:
            used = response.used_tokens
            self._answered_at, self._consecutive_failures = monotonic(), 0
            self.pace.on_success(response.headers, estimated=tokens, used=used)
            return None
        finally:
            self.pace.on_finished()
            self._window_changed.set()

    async def _wait_until_safe(self, flight: InFlightItem) -> None:
        """Wait until all results are stored and this worker's claims are valid.

        Raises:
            CancelledError: The flight's own claim was lost.
        """
        while not self._recorder.is_safe and not self._stop.is_set():
            await self._pause(CLAIM_PAUSE_SECONDS)
        while not self._claims.are_valid and not self._stop.is_set():
            await self._claims.renew()
        if flight.lost:
            raise asyncio.CancelledError

    def _is_outage(self, error: QaError | None) -> bool:
        """Return whether the provider has answered no item for `BatchOptions.max_outage`."""
        if not isinstance(error, ProviderError) or not error.retryable:
            return False
        is_long = monotonic() - self._answered_at > self.plan.max_outage
        return is_long and self._consecutive_failures >= MIN_FAILURES

    async def _finish(
        self,
        question: Question,
        response: ChatResponse,
        error: QaError | None,
        status: Status | None = None,
    ) -> None:
        """Count the outcome of an item and record it."""
        outcome = response.outcome(self._prices)
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
        self._budget.add(outcome.cost_usd)
        await self._recorder.enqueue(question, outcome)

    async def _pause(self, seconds: float) -> None:
        """Wait for this time, or until `stop` is called."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
