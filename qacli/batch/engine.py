"""Asks the items of a batch, as many side by side as the pace allows, and keeps what comes.

One event loop asks. One thread owns the database: it claims items, and keeps results in groups,
many to a transaction and none older than a second. Until its group is kept a result is in a
journal of the outbox, so that a kill loses nothing. There are two journals, taken in turn: while
the results of one are brought into the database, new ones go into the other.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

from qacli.asking import deliver
from qacli.batch.output import Output
from qacli.batch.pace import Pace
from qacli.errors import DatabaseError, InvalidRequest, ProviderError, ProviderUnavailable, QaError
from qacli.exchange import Ask, Outcome, Status
from qacli.outbox import Outbox
from qacli.prices import Prices, estimated_tokens
from qacli.provider import AsyncProvider, Reply, backoff
from qacli.store.batches import Batches, Claimed, Settled

T = TypeVar("T")

GROUP = 500
GROUP_SECONDS = 0.5
BEAT_SECONDS = 10.0
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
"""How long a database or a provider that is away holds the batch up before it ends."""

TOO_FAST = {429, 503, 529}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a batch is to be asked.

    Attributes:
        batch_id: The batch.
        model: For items that name none; as system and params.
        jobs: The most to have in flight.
        retries: How often to ask an item again.
        timeout: Seconds for one attempt, body included.
        rpm: The most requests a minute; None is no limit of ours; as tpm, for tokens.
        max_cost: US dollars not to be passed.
        unordered: Write results as they come, instead of in the order of the items.
        grace: Seconds that items in flight get when the batch is told to stop.
    """

    batch_id: int
    model: str
    system: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    jobs: int = 32
    retries: int = 10
    timeout: float = 600.0
    rpm: float | None = None
    tpm: float | None = None
    max_cost: float | None = None
    unordered: bool = False
    grace: float = 5.0


@dataclass(slots=True)
class Flight:
    """An item in flight, for the progress display."""

    key: str
    started: float
    attempt: int = 1
    waiting: bool = False


@dataclass(slots=True)
class Progress:
    """What a display shows; the engine keeps it up to date."""

    total: int
    done: int = 0
    failed: int = 0
    retried: int = 0
    tokens: int = 0
    cost: float | None = None
    started: float = field(default_factory=monotonic)
    this_run: int = 0
    flights: dict[int, Flight] = field(default_factory=dict)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    stopping: str = ""
    held_up: str = ""


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
        self._output = output
        self._journals = [outbox.open(), outbox.open()]
        self._database = ThreadPoolExecutor(1, thread_name_prefix="qa-database")
        self._items: asyncio.Queue[Claimed | None] = asyncio.Queue(plan.jobs)
        self._results: asyncio.Queue[tuple[Ask, Outcome]] = asyncio.Queue(GROUP * 4)
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._stop = asyncio.Event()
        self._next = 0
        self._written = bytearray(progress.total if plan.unordered else 0)
        self._mean_cost = 0.0
        self._heard_at = monotonic()

    async def run(self) -> None:
        """Ask until every item is settled, by this process or another, or until told to stop.

        Raises:
            ProviderError: Nothing can succeed until a person changes something: the key, say.
            DatabaseError: The database has been away for too long; the outbox has the results.
        """
        host = f"{socket.gethostname()}:{self._outbox.directory}"
        join = (self.plan.batch_id, self.worker, host, self._journals[0].name)
        await self._in_database(self._batches.join, *join)
        kept = False
        try:
            await self._in_database(self._write_settled)
            await self._ask_all(host)
            # What another process has settled since.
            await self._in_database(self._write_settled)
            kept = True
        finally:
            # Whatever ends it, what is claimed is given back, and what is kept is dropped.
            with contextlib.suppress(DatabaseError):
                await self._in_database(self._batches.leave, self.worker)
            for journal in self._journals:
                journal.discard() if kept else journal.close()
            self._database.shutdown()

    def stop(self, why: QaError | None, what: str) -> None:
        """Ask nothing new; what is in flight gets the plan's grace."""
        if not self._stop.is_set():
            self.stopped = why
            self.progress.stopping = what
            self._stop.set()

    async def _ask_all(self, host: str) -> None:
        writer = asyncio.create_task(self._write())
        helpers = [asyncio.create_task(work) for work in (self._feed(host), self._beat())]
        workers = [asyncio.create_task(self._work()) for _ in range(self.plan.jobs)]
        try:
            await self._until_done(workers, [writer, *helpers])
        finally:
            for task in (*workers, *helpers):
                task.cancel()
            await asyncio.gather(*workers, *helpers, return_exceptions=True)
            await self._results.put(END)
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
            # About a second's worth: what is claimed here, another process cannot ask.
            elapsed = max(monotonic() - self.progress.started, 1.0)
            limit = max(self.plan.jobs, int(self.progress.this_run / elapsed))
            claimed = await self._in_database(self._batches.claim, batch_id, self.worker, limit)
            for item in claimed:
                await self._items.put(item)
            if claimed:
                continue
            counts = await self._in_database(self._batches.counts, batch_id)
            if not counts["waiting"] and not counts["claimed"]:
                break
            if monotonic() - looked >= LOOK_SECONDS:
                looked = monotonic()
                await self._in_database(take_over, self._batches, self._outbox, batch_id, host)
            if self._output is not None and not self.progress.flights:
                await self._in_database(self._write_settled)
            await asyncio.sleep(0.1)
        for _ in range(self.plan.jobs):
            await self._items.put(None)

    async def _beat(self) -> None:
        """Say that this process is alive, and hear whether it should stop."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with contextlib.suppress(DatabaseError):
                await self._in_database(self._batches.beat, self.worker)
                if await self._in_database(self._batches.is_cancelled, self.plan.batch_id):
                    self.stop(None, "cancelled by another process")

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
                error = await self._attempt(ask, reply)
                if not isinstance(error, ProviderError) or not error.retryable:
                    break
                if flight.attempt > self.plan.retries:
                    break
                self.progress.retried += 1
                flight.attempt, flight.waiting = flight.attempt + 1, True
                # What the provider asked for, the whole batch waits; this item only its own part.
                await self._pause(backoff(min(flight.attempt, 6), None))
                flight.waiting = False
        except asyncio.CancelledError:
            await self._settle(ask, reply, None)
            raise
        if isinstance(error, ProviderError) and (error.fatal or self._is_gone(error)):
            self.stop(error, error.what)
            await self._settle(ask, reply, error, status=Status.INTERRUPTED)
        elif self._stop.is_set() and error is not None and getattr(error, "retryable", False):
            await self._settle(ask, reply, None)
        elif reply.answered_at is not None or error is not None:
            await self._settle(ask, reply, error)

    async def _attempt(self, ask: Ask, reply: Reply) -> QaError | None:
        """Ask once, when it is its turn; returns why there is no answer."""
        tokens = estimated_tokens(ask.question) + int(ask.params.get("max_tokens") or 0)
        async with self._turn:
            while (delay := self.pace.delay()) is None or delay > 0:
                self.progress.held_up = self.pace.pause_reason if delay and delay > 1 else ""
                if delay is None:
                    self._freed.clear()
                    await self._freed.wait()
                else:
                    await self._pause(min(delay, LOOK_SECONDS))
                if self._stop.is_set():
                    return None
            if self._too_expensive():
                return None
            self.pace.sent(tokens)
        try:
            deadline = asyncio.get_running_loop().time() + self.plan.timeout
            await self._provider.attempt(ask, reply, deadline)
        except ProviderError as error:
            if isinstance(error, ProviderUnavailable) and error.provider_status in TOO_FAST:
                self.pace.refuse(error.what, error.retry_after, reply.headers)
            if len(self.progress.errors) == 0 or self.progress.errors[-1] != error.what:
                self.progress.errors.append(error.what)
            return error
        else:
            used = (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)
            self._heard_at = monotonic()
            self.pace.accepted(reply.headers, estimated=tokens, used=used)
            return None
        finally:
            self.pace.ended()
            self._freed.set()

    def _is_gone(self, error: ProviderError) -> bool:
        """Whether nothing has been answered for so long that this is not about one item."""
        return error.retryable and monotonic() - self._heard_at > PATIENCE_SECONDS

    def _too_expensive(self) -> bool:
        """Whether another question could pass the budget; then nothing more is asked."""
        limit = self.plan.max_cost
        if limit is None:
            return False
        likely = (self.progress.cost or 0.0) + self._mean_cost * (self.pace.in_flight + 1)
        if likely <= limit:
            return False
        self.stop(
            InvalidRequest(
                f"The budget of {limit:g} US dollars would be passed.",
                "What is answered is kept; give a larger --max-cost to go on.",
            ),
            "the budget is used up",
        )
        return True

    async def _settle(
        self, ask: Ask, reply: Reply, error: QaError | None, status: Status | None = None
    ) -> None:
        """Note what has become of an item, and hand it to the writer."""
        outcome = reply.outcome(self._prices)
        if outcome.status is not Status.ANSWERED:
            outcome.status = status or (Status.INTERRUPTED if error is None else Status.FAILED)
            outcome.error = (
                "interrupted: stopped before the answer was complete"
                if error is None
                else f"{error.kind}: {error.what}"
            )
        progress = self.progress
        progress.this_run += 1
        if outcome.status is Status.ANSWERED:
            progress.done += 1
        elif outcome.status is Status.FAILED:
            progress.failed += 1
        progress.tokens += (outcome.prompt_tokens or 0) + (outcome.completion_tokens or 0)
        if outcome.cost_usd is not None:
            progress.cost = (progress.cost or 0.0) + outcome.cost_usd
            self._mean_cost = progress.cost / max(progress.done, 1)
        with contextlib.suppress(OSError):  # a full disk: the database may still take it
            self._journals[0].settled(ask, outcome)
        await self._results.put((ask, outcome))

    async def _write(self) -> None:
        """Keep results in groups, and write the lines that are due."""
        while True:
            group = [await self._results.get()]
            until = monotonic() + GROUP_SECONDS
            while len(group) < GROUP and group[-1] is not END:
                try:
                    async with asyncio.timeout(until - monotonic()):
                        group.append(await self._results.get())
                except TimeoutError:
                    break
            ended = group[-1] is END
            if results := group[: len(group) - ended]:
                # Those that are in this group are all in this journal; newer ones go to the other.
                while not self._results.empty() and not ended:
                    newest = self._results.get_nowait()
                    if newest is END:
                        ended = True
                    else:
                        results.append(newest)
                self._journals.reverse()
                await self._keep(results)
                self._journals[1].clear()
            if ended:
                return

    async def _keep(self, results: list[tuple[Ask, Outcome]]) -> None:
        """Bring a group into the database; wait a while for one that is away."""
        until, pause = monotonic() + PATIENCE_SECONDS, 0.5
        while True:
            try:
                await self._in_database(self._batches.store.keep_items, self.plan.batch_id, results)
                await self._in_database(self._write_settled, [ask.item_key for ask, _ in results])
            except DatabaseError as error:
                if monotonic() + pause > until:
                    self.stop(error, error.what)
                    raise
                self.progress.held_up = error.what
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10)
            else:
                return

    def _write_settled(self, keys: list[str | None] | None = None) -> None:
        """In the database's thread: write the lines that are due by now."""
        if self._output is None:
            return
        batch_id = self.plan.batch_id
        if not self.plan.unordered:
            while settled := self._batches.settled(batch_id, self._next, 1000):
                self._output.write(settled)
                self._next = settled[-1].position + 1
        elif keys is not None:
            self._write_new(self._batches.settled_of(batch_id, keys))
        else:
            for page in self._batches.all_settled(batch_id):
                self._write_new(page)

    def _write_new(self, settled: list[Settled]) -> None:
        """Write those that are not written yet."""
        if self._output is None:
            return
        new = [item for item in settled if not self._written[item.position]]
        self._output.write(new)
        for item in new:
            self._written[item.position] = 1

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until told to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _in_database(self, call: Callable[..., T], *arguments: Any) -> Coroutine[Any, Any, T]:  # noqa: ANN401
        async def run() -> T:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._database, call, *arguments)

        return run()


END: tuple[Ask, Outcome] = (Ask(question="end"), Outcome())
"""What the writer is given last."""


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
