"""Asks the items of a batch, as many side by side as the pace allows, in one event loop."""

import asyncio
import contextlib
import socket
from dataclasses import replace
from time import monotonic
from typing import Any
from uuid import uuid4

from qacli.asking import deliver
from qacli.batch.keeper import PATIENCE_SECONDS, DatabaseThread, Keeper
from qacli.batch.output import Output
from qacli.batch.pace import Pace
from qacli.batch.plan import Flight, Plan, Progress
from qacli.errors import DatabaseError, InvalidRequest, ProviderError, ProviderUnavailable, QaError
from qacli.exchange import Ask, Status, Turn
from qacli.outbox import Outbox
from qacli.prices import Prices, estimated_tokens
from qacli.provider import AsyncProvider, Reply, backoff
from qacli.store.batches import Batches, Claimed
from qacli.structure import correction, misfit

BEAT_SECONDS = 10.0
HEAR_SECONDS = 4.0
LOOK_SECONDS = 1.0
IDLE_SECONDS = 0.1
TOO_FAST = {429, 529}
"""What a provider answers that is asked more than it will take; 503 with Retry-After is as well."""

SEVERAL = 5
READER_GONE = "whoever read the results has stopped"


class Engine:
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
        plan: Plan,
        prices: Prices,
        output: Output | None,
        progress: Progress,
    ) -> None:
        self.plan = plan
        self.progress = progress
        self.pace = Pace(plan.jobs, rpm=plan.rpm, tpm=plan.tpm)
        self.worker = uuid4().hex
        self.stopped: QaError | None = None
        self._batches = batches
        self._outbox = outbox
        self._provider = provider
        self._prices = prices
        self._keeper = Keeper(
            batches=batches, outbox=outbox, plan=plan, progress=progress, output=output
        )
        # A thread of their own: items must not run out while answers are being kept.
        self._claims = DatabaseThread(progress)
        self._items: asyncio.Queue[Claimed | None] = asyncio.Queue(plan.jobs)
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
        host = f"{socket.gethostname()}:{self._outbox.directory}"
        join = (self.plan.batch_id, self.worker, host, self._keeper.journal)
        await self._claims.call(self._batches.join, *join)
        kept = False
        try:
            await self._keeper.write_settled()
            await self._ask_all(host)
            # What another process has settled since.
            await self._keeper.write_settled()
            kept = True
        finally:
            # Whatever ends it, what is claimed is given back, and what is kept is dropped. Where
            # the database is away, whoever comes next sees that this one is gone.
            with contextlib.suppress(DatabaseError):
                await self._claims.once(self._batches.leave, self.worker)
            self._claims.close()
            self._keeper.close(kept=kept)

    def stop(self, why: QaError | None, what: str) -> None:
        """Ask nothing new; what is in flight gets the plan's grace."""
        if not self._stop.is_set():
            self.stopped = why
            self.progress.stopping = what
            self._stop.set()
            self._freed.set()

    async def _ask_all(self, host: str) -> None:
        writer = asyncio.create_task(self._keeper.keep())
        works = (self._feed(host), self._beat(), self._listen())
        helpers = [asyncio.create_task(work) for work in works]
        workers = [asyncio.create_task(self._work()) for _ in range(self.plan.jobs)]
        try:
            await self._until_done(workers, [writer, *helpers])
        finally:
            for task in (*workers, *helpers):
                task.cancel()
            await asyncio.gather(*workers, *helpers, return_exceptions=True)
            self._keeper.end()
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

    async def _feed(self, host: str) -> None:
        """Claim items for the workers, and take over those of processes that are gone."""
        batch_id, looked = self.plan.batch_id, 0.0
        while not self._stop.is_set():
            if not self._keeper.has_reader:
                self.stop(None, READER_GONE)
                break
            # About a second's worth: what is claimed here, another process cannot ask.
            elapsed = max(monotonic() - self.progress.started, 1.0)
            limit = max(self.plan.jobs, int(self.progress.this_run / elapsed))
            claimed = await self._claims.call(self._batches.claim, batch_id, self.worker, limit)
            for item in claimed:
                await self._items.put(item)
            if claimed:
                continue
            if not await self._claims.call(self._batches.has_unsettled, batch_id):
                await self._hear()
                break
            if monotonic() - looked >= LOOK_SECONDS:
                looked = monotonic()
                await self._hear()
                await self._claims.call(take_over, self._batches, self._outbox, batch_id, host)
            if not self.progress.flights:
                self._keeper.hurry()
                await self._keeper.write_settled()
            await self._pause(IDLE_SECONDS)
        for _ in range(self.plan.jobs):
            await self._items.put(None)

    async def _beat(self) -> None:
        """Say that this process is alive, and hear whether it should stop."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with contextlib.suppress(DatabaseError):
                await self._claims.call(self._batches.beat, self.worker)
                if await self._claims.call(self._batches.is_cancelled, self.plan.batch_id):
                    self.stop(None, "cancelled by another process")

    async def _listen(self) -> None:
        """Keep the progress that of the whole batch."""
        while True:
            await asyncio.sleep(HEAR_SECONDS)
            with contextlib.suppress(DatabaseError):
                await self._hear()

    async def _hear(self) -> None:
        """Learn how far the batch is: others may ask of it, too."""
        self.progress.hear(await self._claims.call(self._batches.counts, self.plan.batch_id))

    async def _work(self) -> None:
        """One of the jobs: an item at a time, until there are no more."""
        while (item := await self._items.get()) is not None:
            if self._stop.is_set():
                continue  # claimed, but not asked: it is given back at the end
            try:
                ask = self._ask_of(item)
            except InvalidRequest as error:
                ask = Ask(
                    question=item.payload["question"],
                    batch_id=self.plan.batch_id,
                    item_key=item.key,
                )
                await self._settle(ask, Reply(), error)
                continue
            self.progress.flights[item.position] = flight = Flight(item.key, monotonic())
            try:
                await self._ask(ask, flight)
            finally:
                del self.progress.flights[item.position]

    def _ask_of(self, item: Claimed) -> Ask:
        payload, plan = item.payload, self.plan
        if "error" in payload:
            raise InvalidRequest(payload["error"])
        return Ask(
            question=payload["question"],
            system=payload.get("system", plan.system),
            params={"model": plan.model, **plan.params, **payload.get("params", {})},
            tags=payload.get("tags", []),
            batch_id=plan.batch_id,
            item_key=item.key,
        )

    async def _ask(self, ask: Ask, flight: Flight) -> None:
        """Ask one item until it is answered, or will not be."""
        reply = Reply()
        error: QaError | None = None
        try:
            while not self._stop.is_set():
                error = await self._try(ask, reply, flight)
                if not isinstance(error, ProviderError) or not error.retryable:
                    break
                if flight.attempt > self.plan.retries or self._is_gone(error):
                    break
                self.progress.retried += 1
                flight.attempt, flight.waiting = flight.attempt + 1, True
                # What the provider asked for, the whole batch waits; this item only its own part.
                await self._pause(backoff(min(flight.attempt, 6), None))
                flight.waiting = False
        except asyncio.CancelledError:
            if flight.sent:
                await self._settle(ask, reply, None)
            raise
        if isinstance(error, ProviderError) and (error.fatal or self._is_gone(error)):
            self.stop(error, error.what)
            await self._settle(ask, reply, error, status=Status.INTERRUPTED)
        elif self._stop.is_set() and error is not None and getattr(error, "retryable", False):
            await self._settle(ask, reply, None)
        elif reply.answered_at is not None or error is not None or flight.correction:
            await self._settle(ask, reply, error)

    async def _try(self, ask: Ask, reply: Reply, flight: Flight) -> QaError | None:
        """Ask once, and once more where the answer does not fit; returns why there is none."""
        asked = replace(ask, question=flight.correction) if flight.correction else ask
        error = await self._attempt(asked, reply, flight)
        if error is not None or reply.answered_at is None:
            return error
        unfit = misfit(ask.params, reply.text)
        # What the token limit has cut would be cut again.
        cut = reply.finish_reason == "length"
        if unfit is None or cut or flight.correction or self._stop.is_set():
            return unfit
        self.progress.retried += 1
        flight.turns.append(Turn(ask.question, reply.text))
        flight.correction = correction(unfit)
        flight.paid = reply.outcome(self._prices).cost_usd or 0.0
        reply.reject()
        return await self._try(ask, reply, flight)

    async def _attempt(self, ask: Ask, reply: Reply, flight: Flight) -> QaError | None:
        """Ask once, when it is its turn; returns why there is no answer."""
        tokens = estimated_tokens(ask.question) + int(ask.params.get("max_tokens") or 0)
        async with self._turn:
            while not self._stop.is_set() and (delay := self.pace.delay()) != 0:
                if delay is None:
                    self._freed.clear()
                    await self._freed.wait()
                else:
                    await self._pause(min(delay, LOOK_SECONDS))
            if self._stop.is_set() or self._too_expensive(ask, flight):
                return None
            flight.sent = True
            self.pace.sent(tokens)
        try:
            deadline = asyncio.get_running_loop().time() + self.plan.timeout
            await self._provider.attempt(ask, reply, deadline, turns=flight.turns)
        except ProviderError as error:
            self._failed_in_a_row += 1
            told = error.retry_after is not None
            if error.provider_status in TOO_FAST or (
                told and isinstance(error, ProviderUnavailable)
            ):
                self.pace.refuse(error.what, error.retry_after, reply.headers)
            if len(self.progress.errors) == 0 or self.progress.errors[-1] != error.what:
                self.progress.errors.append(error.what)
            return error
        else:
            used = (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)
            self._heard_at, self._failed_in_a_row = monotonic(), 0
            self.pace.accepted(reply.headers, estimated=tokens, used=used)
            return None
        finally:
            self.pace.ended()
            self._freed.set()

    def _is_gone(self, error: ProviderError) -> bool:
        """Whether nothing has been answered for so long that this is not about one item."""
        long = monotonic() - self._heard_at > PATIENCE_SECONDS
        return error.retryable and long and self._failed_in_a_row >= SEVERAL

    def _too_expensive(self, ask: Ask, flight: Flight) -> bool:
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

    def _likely_cost(self, ask: Ask) -> float:
        """From the question's length, and the token limit or what answers have cost so far."""
        prompt = estimated_tokens(ask.question + (ask.system or ""))
        completion = int(ask.params.get("max_tokens") or prompt)
        return max(self._prices.cost(ask.model, prompt, completion) or 0.0, self._mean_cost)

    async def _settle(
        self, ask: Ask, reply: Reply, error: QaError | None, status: Status | None = None
    ) -> None:
        """Note what has become of an item, and hand it to the writer."""
        outcome = reply.outcome(self._prices)
        if outcome.status is not Status.ANSWERED or error is not None:
            outcome.end(error)
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
        await self._keeper.take(ask, outcome)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until told to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def take_over(batches: Batches, outbox: Outbox, batch_id: int, host: str) -> int:
    """Give back what processes that are gone had claimed, with their results delivered first.

    Returns how many items wait again. On this machine a process is gone when its journal is not
    locked any more; on another, when it has been silent for too long.
    """
    released = 0
    for worker, silent in batches.workers(batch_id):
        gone = not outbox.is_held(worker.journal) if worker.host == host else silent
        if gone:
            deliver(outbox, batches.store)
            released += batches.leave(worker.uid)
    return released
