"""Ask the items of a batch concurrently, in one event loop, as fast as the limiter allows."""

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Any

from qacli.batch.budget import Budget
from qacli.batch.claim_loop import ClaimLoop
from qacli.batch.claims import WorkerClaims
from qacli.batch.corrections import continue_unfit
from qacli.batch.database import DatabaseExecutor
from qacli.batch.job_slot import JobSlot
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.options import BatchOptions, StopReason
from qacli.batch.outage import OutageWaits
from qacli.batch.output import ResultOutput
from qacli.batch.progress import ActiveItem, Progress
from qacli.batch.recorder import BatchRecorder
from qacli.batch.send_conditions import SendConditions
from qacli.batch.shared_limits import LimitShare, is_throttled, limit_of
from qacli.batch.stop_rules import StopRules
from qacli.batch.stop_signal import StopSignal
from qacli.batch.writer import ResultWriter
from qacli.cost import Pricing, estimate_tokens
from qacli.db.batches import Batches, ClaimedItem
from qacli.db.shared_limits import SharedLimits
from qacli.domain import ChatRequest, Question, Status, Turn
from qacli.errors import DatabaseError, InvalidRequest, ProviderError, QaError
from qacli.json_schema import validation_error
from qacli.provider.client import AsyncProvider
from qacli.provider.response import ChatResponse
from qacli.provider.retry import retry_delay
from qacli.recording.outbox import Outbox
from qacli.schema_repair import is_repairable, repair_prompt

MAX_WAITING_ITEMS = 1000
WORKERS_PER_JOB = 4
"""Items that a job holds at most: all but one of them wait until they are asked again."""


class BatchRunner:
    """Asks one batch in this process.

    Args:
        batches: The database.
        outbox: The directory of the journals.
        provider: The provider of the answers.
        options: The options of the batch.
        prices: The prices, for the cost of each answer.
        output: The writer of the results; None writes none.
        progress: Updated during the run.

    """

    def __init__(  # noqa: PLR0913 - the parts of a run, by name
        self,
        *,
        batches: Batches,
        outbox: Outbox,
        provider: AsyncProvider,
        options: BatchOptions,
        prices: Pricing,
        output: ResultWriter | None,
        progress: Progress,
    ) -> None:
        self.options = options
        self.progress = progress
        self.limiter = AdaptiveLimiter(options.jobs, rpm=options.rpm, tpm=options.tpm)
        self._batches = batches
        self._provider = provider
        self._prices = prices
        self._output = ResultOutput(batches, options.batch_id, output, unordered=options.unordered)
        # A thread of its own: claims must not wait while the recorder writes to the database.
        self._database = DatabaseExecutor(progress, options.max_outage)
        self._claims = WorkerClaims(
            batches,
            outbox,
            options.batch_id,
            database=self._database,
            lease_seconds=options.lease_seconds,
            on_lost=self._cancel_lost_items,
        )
        self._recorder = BatchRecorder(
            batches=batches,
            outbox=outbox,
            options=options,
            progress=progress,
            output=self._output,
            on_saved=self._claims.drop,
            on_unsafe=self._stop_unsafe,
        )
        self._stop = StopSignal(self._on_stop)
        self._items: asyncio.Queue[ClaimedItem | None] = asyncio.Queue(options.jobs)
        self._workers = min(WORKERS_PER_JOB * options.jobs, options.jobs + MAX_WAITING_ITEMS)
        # A job is free while its item waits until it is asked again.
        self._slots = asyncio.Semaphore(options.jobs)
        self._has_unfit = False
        self.share = LimitShare(self.limiter, progress, lambda: options.jobs)
        self._budget = Budget(
            options,
            batches=batches,
            database=self._database,
            prices=prices,
            endpoint=provider.endpoint.name,
            progress=progress,
        )
        self._claim_loop = ClaimLoop(
            claims=self._claims,
            batches=batches,
            database=self._database,
            options=options,
            progress=progress,
            budget=self._budget,
            output=self._output,
            flush=self._recorder.flush,
            items=self._items,
            consumers=self._workers,
            stop=self._stop,
        )
        self._conditions = SendConditions(
            limiter=self.limiter,
            share=self.share,
            recorder=self._recorder,
            claims=self._claims,
            budget=self._budget,
            stop=self._stop,
            cancel_items=self._cancel_lost_items,
        )
        self._rules = StopRules.of(options, monotonic())
        self._outage_waits = OutageWaits(self._stop.pause)

    @property
    def stop_reason(self) -> StopReason | None:
        """The reason why the run has stopped early; None if it has not."""
        return self._stop.reason

    @property
    def stopped(self) -> QaError | None:
        """The error that has stopped the run; None if no error has."""
        return self._stop.error

    async def run(self) -> None:
        """Ask until every item is settled, by this process or another, or until `stop` is called.

        Raises:
            ProviderError: No question can succeed until a setting, such as the key, is changed.
            DatabaseError: The database could not be reached in time; the outbox has the results.
        """
        try:
            await self._claims.register()
            self._has_unfit = await self._database.run(
                self._batches.has_unfit_answers, self.options.batch_id
            )
            await self._database.run(self._output.write)
            await self._ask_all()
            # Other processes may have settled items since then.
            await self._database.run(self._output.write)
        finally:
            # Try the database only once more, and release the claims in every case.
            self._database.stop()
            await self._claims.unregister()
            self._database.close()
            self._recorder.close()
        if self.stopped is not None and self._rules.refused_keys:
            self._batches.release_failed(self.options.batch_id, self._rules.refused_keys)

    def stop(self, reason: StopReason, message: str, error: QaError | None = None) -> None:
        """Send no more questions; active items get `BatchOptions.grace` seconds."""
        self._stop.set(reason, message, error)

    def _on_stop(self, message: str) -> None:
        self.progress.stopping = message
        self._conditions.check_again()
        self._outage_waits.end()

    def _stop_unsafe(self, cause: DatabaseError) -> None:
        """Stop, because an answer could not be stored."""
        error = DatabaseError(
            f"Answers could not be stored for a while, and asking has stopped: {cause.what}",
            "Make room on the disk and run the same command again; nothing is lost.",
        )
        self.stop(StopReason.ERROR, "the answers cannot be stored", error)

    async def _ask_all(self) -> None:
        recorder = asyncio.create_task(self._recorder.wait_until_ended())
        loop = self._claim_loop
        coroutines = (loop.run(), loop.heartbeat(), loop.poll(), self._share_limits())
        helpers = [asyncio.create_task(coroutine) for coroutine in coroutines]
        workers = [asyncio.create_task(self._worker()) for _ in range(self._workers)]
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
                    await asyncio.wait(workers, timeout=self.options.grace)
                    return
        finally:
            stop.cancel()

    def _cancel_lost_items(self, keys: set[str]) -> None:
        """Cancel the active items that another worker has claimed in the meantime."""
        for active in self.progress.active_items.values():
            if active.key in keys and not active.lost:
                active.lost = True
                if active.task not in {None, asyncio.current_task()}:
                    active.cancelled = active.task.cancel()

    async def _share_limits(self) -> None:
        """Share the limits of the endpoint, the key and the model with all other processes."""
        limit = limit_of(self._provider.endpoint, self.options.model)
        limits = SharedLimits(self._batches.store)
        await self.share.run(limits, self._database, self._claims.worker, limit)

    async def _worker(self) -> None:
        """Ask one item after the other, until there are no more."""
        while (item := await self._items.get()) is not None:
            async with JobSlot(self._slots) as slot:
                await self._ask_item(item, slot)
            self._conditions.check_again()

    async def _ask_item(self, item: ClaimedItem, slot: JobSlot) -> None:
        """Ask one item, if its claim is still valid, and record its outcome."""
        # After the wait for a job: another worker may have taken the item over meanwhile.
        if self._stop.is_set or not self._claims.has(item):
            return  # the claim is released at the end, or was lost
        try:
            question = self.options.question(item.key, item.payload)
        except InvalidRequest as error:
            question = Question(
                question=item.payload["question"],
                batch_id=self.options.batch_id,
                item_key=item.key,
            )
            await self._finish(question, ChatResponse(), error)
            return
        task = asyncio.current_task()
        active = ActiveItem(item.key, monotonic(), item.position, task=task, cost=item.reserved)
        self.progress.active_items[id(item)] = active
        response = ChatResponse()
        try:
            if self._has_unfit:
                question = await self._database.run(
                    continue_unfit, self._batches, question, active, response
                )
            await self._ask(question, response, active, slot)
        except asyncio.CancelledError:
            if not active.lost or task is None:
                raise
            # Remove the cancellation by `_cancel_lost_items`; any other one ends the worker.
            if (task.uncancel() if active.cancelled else task.cancelling()) > 0:
                raise
        finally:
            del self.progress.active_items[id(item)]

    async def _ask(
        self, question: Question, response: ChatResponse, active: ActiveItem, slot: JobSlot
    ) -> None:
        """Ask one item, with retries, and record its outcome."""
        error: QaError | None = None
        stop: QaError | None = None
        try:
            while not self._stop.is_set:
                error = await self._ask_with_repair(question, response, active)
                if isinstance(error, ProviderError):
                    stop = self._rules.on_error(active.key, error, monotonic(), question.model)
                delay = retry_delay(error, active.attempt, self.options.retries)
                if delay is None or stop is not None:
                    break
                self.progress.retried += 1
                active.attempt, active.retry_at = active.attempt + 1, monotonic() + delay
                is_away = isinstance(error, ProviderError) and not is_throttled(error)
                async with slot.released():
                    await (self._outage_waits.wait if is_away else self._stop.pause)(delay)
                active.retry_at = None
        except asyncio.CancelledError:
            if active.sent and not active.lost:
                await self._finish(question, response, None)
            raise
        if stop is not None:
            self.stop(StopReason.ERROR, stop.what, stop)
            await self._finish(question, response, error, status=Status.INTERRUPTED)
        elif self._stop.is_set and error is not None and getattr(error, "retryable", False):
            await self._finish(question, response, None)
        elif response.answered_at is not None or error is not None or active.correction is not None:
            await self._finish(question, response, error)

    async def _ask_with_repair(
        self, question: Question, response: ChatResponse, active: ActiveItem
    ) -> QaError | None:
        """Ask once, and once more if the answer does not fit its schema; return the error."""
        sent = question
        if active.correction is not None:
            sent = replace(question, question=active.correction)
        error = await self._ask_once(sent, response, active)
        if error is not None or response.answered_at is None:
            return error
        schema_error = validation_error(question.params, response.text)
        if schema_error is None or active.correction is not None or self._stop.is_set:
            return schema_error
        if not is_repairable(schema_error, response.finish_reason):
            return schema_error
        self.progress.retried += 1
        active.turns.append(Turn(question.question, response.text))
        active.correction = repair_prompt(schema_error, question.params)
        active.paid = response.outcome(self._prices).cost_usd or 0.0
        response.discard()
        return await self._ask_with_repair(question, response, active)

    async def _ask_once(
        self, question: Question, response: ChatResponse, active: ActiveItem
    ) -> QaError | None:
        """Send a question once it may be sent; return the error if there is no answer."""
        tokens = estimate_tokens(question.question) + int(question.params.get("max_tokens") or 0)
        sent_at = await self._conditions.wait(question, active, tokens)
        if sent_at is None:
            return None
        try:
            deadline = asyncio.get_running_loop().time() + self.options.timeout
            request = ChatRequest(question=question, turns=active.turns, stream=False)
            await self._provider.attempt(request, response, deadline)
        except ProviderError as error:
            if is_throttled(error):
                self.limiter.on_throttled(error.what, response.headers, sent_at)
            self.progress.add_error(error.what)
            return error
        else:
            used = response.used_tokens
            if self._rules.on_answered(monotonic(), question.model):
                self._outage_waits.end()
            self.limiter.on_success(response.headers, estimated=tokens, used=used)
            return None
        finally:
            self.limiter.on_finished()
            self.share.on_finished(tokens, response.used_tokens)
            self._conditions.check_again()

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
        self.progress.add(outcome)
        self._budget.add(outcome.cost_usd)
        await self._recorder.enqueue(question, outcome)
