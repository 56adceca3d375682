"""The share of one worker in the limits that all processes with its key have.

    AdaptiveLimiter          SharedLimit (a row of the database)          other workers
    what this process   <->  token buckets, pause, learned rates    <->   on any machine
    has learned

About once a second a worker gives back what it did not use and takes what it needs; it spends that
evenly until the next time. While no worker knows a limit, nothing is limited here. Of a rate that
was learned from refusals each worker has a part: one that joins gets an equal part, and the others
lower theirs; when one leaves, they raise it.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from qacli.batch.database import DatabaseExecutor
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.options import Progress
from qacli.db.shared_limits import Grant, LimitReport, SharedLimits
from qacli.errors import DatabaseError

TAKE_SECONDS = (0.5, 1.0)
"""The time between two takes is random within these limits, so that workers take turns."""

LONGER_SECONDS = 0.5
"""A pause is written at once if it is this much longer than the one in the database."""

TOKENS_PER_REQUEST = 1000
"""Tokens that are taken for each job while it is not known how many a request needs."""


@dataclass(slots=True)
class Allowance:
    """Requests or tokens that may be spent evenly over a time.

    Attributes:
        unit: The amount that must be left to send a request.
        amount: The amount; None is no limit.
        used: The part of it that is spent.
        reported: The part of `used` that the database knows.
        started: The time at which it was taken.
        seconds: The time over which it is spent.
    """

    unit: float
    amount: float | None = 0.0
    used: float = 0.0
    reported: float = 0.0
    started: float = 0.0
    seconds: float = 1.0

    @property
    def unused(self) -> float:
        """The amount that is left; below 0 if more was spent."""
        return 0.0 if self.amount is None else self.amount - self.used

    def give_back(self) -> float:
        """Return the amount that is left; later spending counts for the next amount."""
        self.reported = self.used
        return self.unused

    def delay(self, now: float) -> float:
        """Return the seconds until a request may be sent, at most those to the next take."""
        if self.amount is None:
            return 0.0
        end = self.started + self.seconds - now
        if self.unused < max(self.unit, 1e-9):
            return max(end, 0.05)
        ready = self.started + (self.used + self.unit) / self.amount * self.seconds - now
        return max(ready, 0.0)

    def renew(self, amount: float | None, now: float, seconds: float) -> None:
        """Replace it by a new amount."""
        self.amount, self.started, self.seconds = amount, now, seconds
        self.used, self.reported = self.used - self.reported, 0.0


class LimitShare:
    """The share of this process in the limits of its endpoint, key and model.

    Args:
        limiter: The limiter of this process.
        progress: The number of finished items, and whether the database can be reached.
        clock: Returns the seconds of a monotonic clock.
    """

    def __init__(
        self,
        limiter: AdaptiveLimiter,
        progress: Progress,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limiter = limiter
        self._progress = progress
        self._clock = clock
        self._requests, self._tokens = Allowance(1.0), Allowance(0.0)
        self._workers: int | None = None
        self._paused_until = 0.0
        self._pause_reason = ""
        self._pause_changed = asyncio.Event()

    @property
    def pause(self) -> tuple[float, str]:
        """The seconds for which nothing may be sent, by any worker's pause, and its reason."""
        others = self._paused_until - self._clock(), self._pause_reason
        return max(others, self._limiter.own_pause)

    def delay(self) -> float | None:
        """Return the seconds until a request may be sent; None while too many are in flight."""
        delay = self._limiter.delay()
        if delay is None:
            return None
        now = self._clock()
        shared = max(self._requests.delay(now), self._tokens.delay(now), self._paused_until - now)
        return max(delay, shared)

    def on_sent(self, tokens: int) -> None:
        """Count a request that is sent, and its estimated tokens."""
        self._requests.used += 1
        self._tokens.used += tokens

    def on_finished(self, estimated: int, used: int) -> None:
        """Count the tokens of a request that has ended; write a pause for the other workers.

        Args:
            estimated: The tokens that `on_sent` counted.
            used: The tokens that the provider counted; 0 is unknown.
        """
        if used:
            self._tokens.used += used - estimated
        written = self._paused_until - self._clock()
        if self._limiter.own_pause[0] > max(written, 0.0) + LONGER_SECONDS:
            self._pause_changed.set()

    async def run(
        self,
        limits: SharedLimits,
        database: DatabaseExecutor,
        worker: str,
        limit: tuple[str, str, str],
    ) -> None:
        """Take a part of the limits again and again, until the task is cancelled.

        Args:
            limits: The limits of the database.
            database: The thread that calls the database.
            worker: The worker's id.
            limit: The endpoint, the key and the model; see `SharedLimits.open`.
        """
        limit_id = await database.run(limits.open, *limit)
        try:
            while True:
                self._pause_changed.clear()
                with suppress(DatabaseError):
                    report = self.report()
                    self.apply(await database.run(limits.take, limit_id, worker, report))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._requests.seconds):
                        await self._pause_changed.wait()
        finally:
            if self._progress.database_wait_reason is None:
                with suppress(DatabaseError):
                    last = self.report(is_last=True)
                    await database.run(limits.take, limit_id, worker, last)

    def report(self, *, is_last: bool = False) -> LimitReport:
        """Return the limits that this process knows and the amounts that it needs.

        Args:
            is_last: The process ends and needs nothing.
        """
        request_rate, token_rate = self._limiter.stated_rates
        pause, pause_reason = self._limiter.own_pause
        jobs = self._limiter.jobs
        return LimitReport(
            request_rate=request_rate,
            token_rate=token_rate,
            requests=0.0 if is_last else max(2 * self._requests.used, jobs),
            tokens=0.0 if is_last else max(2 * self._tokens.used, jobs * TOKENS_PER_REQUEST),
            unused_requests=self._requests.give_back(),
            unused_tokens=self._tokens.give_back(),
            pause=pause,
            pause_reason=pause_reason,
            learned_rate=self._limiter.learned_rate,
            in_flight=self._limiter.in_flight,
            finished=self._progress.finished_in_this_run,
            is_last=is_last,
        )

    def apply(self, grant: Grant) -> None:
        """Use the amounts, the pause and the rates of this grant."""
        now = self._clock()
        seconds = random.uniform(*TAKE_SECONDS)  # noqa: S311 - no secret
        self._requests.renew(grant.requests, now, seconds)
        self._tokens.renew(grant.tokens, now, seconds)
        self._paused_until, self._pause_reason = now + grant.pause, grant.pause_reason
        own = self._limiter.learned_rate
        if self._workers is None:
            if grant.learned_rates:
                self._limiter.set_learned_rate(sum(grant.learned_rates) / grant.workers)
        elif own is not None and grant.workers != self._workers:
            self._limiter.set_learned_rate(own * self._workers / grant.workers)
        self._workers = grant.workers
