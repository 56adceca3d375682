"""The share of one process in the limits of all processes with its key.

    AdaptiveLimiter          SharedLimit (a row of the database)          other workers and
    what this process   <->  token buckets, pause, learned rates    <->   servers on any
    has learned                                                           machine

About once a second a process returns its unused part and takes the part it needs. A batch spends
that evenly until the next time, and a server at the rate of the limit. While no process has a
limit, nothing is limited here. Of a rate that was learned from refusals each process has a part:
one that joins gets an equal part, and the others lower theirs; when one leaves, they raise it.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from qacli.batch.database import DatabaseExecutor
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.progress import Progress
from qacli.batch.run_options import address_of
from qacli.db.shared_limits import Grant, LimitReport, SharedLimits
from qacli.errors import DatabaseError, ProviderError, ProviderUnavailable
from qacli.provider.endpoint import Endpoint

TAKE_SECONDS = (0.5, 1.0)
"""The time between two takes is random within these limits, so that workers take turns."""

CATCH_UP_SECONDS = 0.2
"""Seconds' worth that may be spent at once after a delay; the rest is given back, so that workers
that hung do not send all of it in a moment."""

LONGER_SECONDS = 0.5
"""A pause is written at once if it is this much longer than the one in the database."""

TOKENS_PER_REQUEST = 1000
"""Tokens that are taken for each request while it is not known how many one needs."""

THROTTLE_STATUSES = {429, 529}
"""The statuses of a provider that limits the rate; 503 with Retry-After is another."""


def limit_of(endpoint: Endpoint, model: str) -> tuple[str, str, str]:
    """Return the endpoint, the key and the model that name a shared limit."""
    return address_of(endpoint), endpoint.key or endpoint.user, model


def is_throttled(error: ProviderError) -> bool:
    """Return whether the provider refused a request because it is overloaded or limits the rate.

    A 429 for a request that is larger than a limit, or for an empty account, says nothing of the
    rate.
    """
    is_delayed = error.retry_after is not None or error.provider_status in THROTTLE_STATUSES
    return is_delayed and isinstance(error, ProviderUnavailable)


@dataclass(slots=True)
class Allowance:
    """Requests or tokens that may be spent evenly over a time, until the next take.

    Attributes:
        unit: The amount that must be left to send a request.
        amount: The amount; None means no limit.
        used: The part of it that is spent.
        reported: The part of `used` that the database has.
        started: The time at which it was taken.
        seconds: The time until the next take.
        spread: The time over which it is spent.
        next_at: The time from which more may be spent.
    """

    unit: float
    amount: float | None = 0.0
    used: float = 0.0
    reported: float = 0.0
    started: float = 0.0
    seconds: float = 1.0
    spread: float = 1.0
    next_at: float = 0.0

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
        return max(self.next_at - now, 0.0)

    def spend(self, number: float, now: float) -> None:
        """Spend a number of the units."""
        self.used += number
        if self.amount:
            earliest = max(self.next_at, now - CATCH_UP_SECONDS)
            self.next_at = earliest + number / self.amount * self.spread

    def renew(self, amount: float | None, now: float, seconds: float, rate: float = 0.0) -> None:
        """Replace it by a new amount, spent at this rate; 0 is evenly until the next take."""
        self.amount, self.started, self.seconds = amount, now, seconds
        self.spread = amount / rate if amount and rate else seconds
        self.next_at = min(self.next_at, now)
        self.used, self.reported = self.used - self.reported, 0.0


class LimitShare:
    """The share of this process in the limits of its endpoint, key and model.

    Args:
        limiter: The limiter of this process.
        progress: The number of finished items, and whether the database can be reached.
        waiting: Returns the requests that it could send now: the jobs of a batch.
        clock: Returns the seconds of a monotonic clock.
        is_prompt: Send a request as soon as the limit allows it; otherwise requests are sent evenly
            over the time.
    """

    def __init__(
        self,
        limiter: AdaptiveLimiter,
        progress: Progress,
        waiting: Callable[[], int],
        clock: Callable[[], float] = monotonic,
        *,
        is_prompt: bool = False,
    ) -> None:
        self._limiter = limiter
        self._progress = progress
        self._waiting = waiting
        self._clock = clock
        self._is_prompt = is_prompt
        self._requests, self._tokens = Allowance(1.0), Allowance(0.0)
        self._needed = 0.0
        self._users: int | None = None
        self._paused_until = 0.0
        self._pause_reason = ""
        self._take_now = asyncio.Event()

    @property
    def pause(self) -> tuple[float, str]:
        """The seconds for which nothing may be sent, by any process's pause, and its reason."""
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

    def take_more(self) -> None:
        """Take again now, if a request waits and the last take has left something."""
        is_used_up = self._requests.amount is not None and self._requests.unused < 1
        if is_used_up and (self._requests.amount or 0.0) >= self._needed:
            self._take_now.set()

    def on_sent(self, tokens: int) -> None:
        """Count a request that is sent, and its estimated tokens."""
        now = self._clock()
        self._requests.spend(1, now)
        self._tokens.spend(tokens, now)

    def on_finished(self, estimated: int, used: int) -> None:
        """Count the tokens of a request that has ended; share a new pause or limit at once.

        Args:
            estimated: The tokens that `on_sent` counted.
            used: The tokens that the provider counted; 0 is unknown.
        """
        if used:
            self._tokens.used += used - estimated
        written = self._paused_until - self._clock()
        is_new = self._requests.amount is None and self._limiter.stated_rates[0] is not None
        if is_new or self._limiter.own_pause[0] > max(written, 0.0) + LONGER_SECONDS:
            self._take_now.set()

    async def run(
        self,
        limits: SharedLimits,
        database: DatabaseExecutor,
        user: str,
        limit: tuple[str, str, str],
    ) -> None:
        """Take a part of the limits again and again, until the task is cancelled.

        Args:
            limits: The limits of the database.
            database: The thread that calls the database.
            user: The id of the process: that of the worker.
            limit: See `limit_of`.
        """
        limit_id: int | None = None
        try:
            while True:
                self._take_now.clear()
                with suppress(DatabaseError):
                    if limit_id is None:
                        limit_id = await database.run(limits.open, *limit)
                    report = self.report()
                    self.apply(await database.run(limits.take, limit_id, user, report))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._requests.seconds):
                        await self._take_now.wait()
        finally:
            if limit_id is not None and self._progress.database_wait_reason is None:
                with suppress(DatabaseError):
                    last = self.report(is_last=True)
                    await database.run(limits.take, limit_id, user, last)

    def report(self, *, is_last: bool = False) -> LimitReport:
        """Return the known limits of this process and the amounts that it needs.

        Args:
            is_last: The process ends and needs nothing.
        """
        request_rate, token_rate = self._limiter.stated_rates
        pause, pause_reason = self._limiter.own_pause
        waiting = self._waiting()
        self._needed = 0.0 if is_last else max(2 * self._requests.used, waiting)
        return LimitReport(
            request_rate=request_rate,
            token_rate=token_rate,
            requests=self._needed,
            tokens=0.0 if is_last else max(2 * self._tokens.used, waiting * TOKENS_PER_REQUEST),
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
        rates = (grant.request_rate, grant.token_rate) if self._is_prompt else (0.0, 0.0)
        self._requests.renew(grant.requests, now, seconds, rates[0])
        self._tokens.renew(grant.tokens, now, seconds, rates[1])
        self._paused_until, self._pause_reason = now + grant.pause, grant.pause_reason
        own = self._limiter.learned_rate
        if self._users is None:
            if grant.learned_rates:
                self._limiter.set_learned_rate(sum(grant.learned_rates) / grant.users)
        elif own is not None and grant.users != self._users:
            self._limiter.set_learned_rate(own * self._users / grant.users)
        self._users = grant.users
