"""How fast to ask: as fast as the provider allows, found out while asking.

Three limits together. How many are in flight: additive increase, multiplicative decrease between
1 and the number of jobs. How many a second: as the person said (`--rpm`, `--tpm`), as the
provider's `x-ratelimit-*` headers say, or, once it has refused something, as it was seen to
accept; from then on a little more each second, a little less at each refusal. And a pause for
everybody when the provider says Retry-After. All times are of a monotonic clock that is passed
in, so neither a clock that jumps nor a test that does not want to wait is a special case.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

FIRST_WINDOW = 64.0
AFTER_PAUSE = 16.0
"""How many go at once before the provider has said anything of its limits, and after a pause."""

DECREASE = 0.7
GENTLE_DECREASE = 0.95
"""What is left of the window when many are refused, and when hardly any are."""

MANY = 0.3
"""What share of requests is many."""

WIDENING = 0.1
WIDENING_PART = 0.005
"""By how much the window is widened a round, once something was refused: this, or a part of it."""

DISTRUST = 3
"""So many refusals in spite of a stated limit, and it is not believed any more."""

RATE_AFTER_REFUSAL = 0.97
RATE_GROWTH = 0.01
"""Each second without a refusal, as a part of the rate."""

OBSERVED_SECONDS = 10.0
BURST_SECONDS = 0.2
"""How much of a second's allowance may be asked at once after a lull."""

HEADROOM = 0.98
"""How much of a stated limit is used: the provider's clock is not ours."""


@dataclass(slots=True)
class TokenBucket:
    """An allowance that refills at a steady rate; it may go into debt by what is taken at once."""

    rate: float
    now: float
    tokens: float = 0.0

    def refill(self, now: float) -> None:
        """Bring the allowance up to date."""
        burst = max(self.rate * BURST_SECONDS, 1.0)
        self.tokens = min(self.tokens + (now - self.now) * self.rate, burst)
        self.now = now

    def wait(self) -> float:
        """Seconds until something may be taken."""
        return 0.0 if self.tokens >= 0 else -self.tokens / self.rate


class AdaptiveLimiter:
    """The pace of one batch in one process; not thread-safe, a loop owns it.

    Args:
        jobs: The most to have in flight.
        rpm: The most requests a minute.
        tpm: The most tokens a minute.
        clock: Seconds, of a clock that never goes back.
    """

    def __init__(
        self,
        jobs: int,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.jobs = jobs
        self.window = min(float(jobs), FIRST_WINDOW)
        self._slow_start_to = float(jobs)
        self.in_flight = 0
        self.paused_until = 0.0
        self.pause_reason = ""
        self.refused = 0
        self._clock = clock
        now = clock()
        self._said = TokenBucket(rpm / 60, now) if rpm else None
        self._tokens = TokenBucket(tpm / 60, now) if tpm else None
        self._tokens_stated = False
        self._learned: TokenBucket | None = None
        self._grown_at = now
        self._decreased_at = -OBSERVED_SECONDS
        self._accepted: deque[tuple[float, int]] = deque()
        self._stated = False
        self._distrusted = 0
        self._refused_since = 0
        self._accepted_since = 0

    @property
    def rate(self) -> float | None:
        """Requests a second that are allowed now; None is no limit."""
        rates = [bucket.rate for bucket in (self._said, self._learned) if bucket is not None]
        return min(rates) if rates else None

    def delay(self) -> float | None:
        """Seconds until another request may go; None while as many are in flight as may be."""
        if self.in_flight >= max(int(self.window), 1):
            return None
        now = self._clock()
        self._grow(now)
        waits = [self.paused_until - now]
        for bucket in (self._said, self._learned, self._tokens):
            if bucket is not None:
                bucket.refill(now)
                waits.append(bucket.wait())
        return max(*waits, 0.0)

    def on_sent(self, tokens: int) -> None:
        """A request goes, with as many tokens as it is estimated to take."""
        self.in_flight += 1
        for bucket in (self._said, self._learned):
            if bucket is not None:
                bucket.tokens -= 1
        if self._tokens is not None:
            self._tokens.tokens -= tokens

    def on_finished(self) -> None:
        """A request has ended, however it did."""
        self.in_flight -= 1

    def on_success(self, headers: Mapping[str, str], *, estimated: int = 0, used: int = 0) -> None:
        """The provider answered: widen the window, and learn from what its headers say."""
        now = self._clock()
        self._accepted_since += 1
        # Doubled with each round up to where something was refused; then carefully on.
        careful = self.refused and self.window >= self._slow_start_to
        step = max(WIDENING / self.window, WIDENING_PART) if careful else 1.0
        self.window = min(self.window + step, self.jobs)
        second = int(now)
        if self._accepted and self._accepted[-1][0] == second:
            self._accepted[-1] = (second, self._accepted[-1][1] + 1)
        else:
            self._accepted.append((second, 1))
        while self._accepted and self._accepted[0][0] < now - OBSERVED_SECONDS - 1:
            self._accepted.popleft()
        if self._tokens is not None and used:
            self._tokens.tokens += estimated - used
        self._learn(headers, now)

    def on_throttled(
        self, reason: str, retry_after: float | None, headers: Mapping[str, str]
    ) -> None:
        """The provider is overloaded or says that we are too fast."""
        now = self._clock()
        self.refused += 1
        self._refused_since += 1
        if retry_after is not None:
            self.pause(retry_after, reason)
        self._learn(headers, now)
        # Refusals of requests that were sent together are one event.
        if now - self._decreased_at < 1.0:
            return
        self._decreased_at = now
        asked = self._refused_since + self._accepted_since
        many = self._refused_since > asked * MANY
        gentle = min(self.window - 1, self.window * GENTLE_DECREASE)
        self._slow_start_to = max(self.window * DECREASE if many else gentle, 1.0)
        self.window = min(self.window, self._slow_start_to)
        self._refused_since = self._accepted_since = 0
        if self._stated:
            self._distrusted += 1
            self._stated = self._distrusted < DISTRUST
        # A few that are refused without a word may have nothing to do with the pace.
        by_rate = self._learned is not None and self.in_flight < self.window * 0.8
        if (retry_after is not None or by_rate) and not self._stated:
            self._slow_down(now)

    def _slow_down(self, now: float) -> None:
        """Ask no faster than was accepted lately."""
        seen = self._seen(now)
        if self._learned is None:
            if seen is None:
                return
            self._learned = TokenBucket(seen, now)
        rate = min(self._learned.rate, seen or self._learned.rate) * RATE_AFTER_REFUSAL
        self._learned.rate = max(rate, 1 / 60)
        self._grown_at = now

    def pause(self, seconds: float, reason: str) -> None:
        """Ask nothing for a while: the whole batch waits, and not only the one that was told."""
        until = self._clock() + seconds
        if until > self.paused_until:
            self.paused_until, self.pause_reason = until, reason
        # Not all at once when it is over.
        self.window = min(self.window, AFTER_PAUSE)

    def _seen(self, now: float) -> float | None:
        """Requests a second that were accepted lately."""
        if not self._accepted:
            return None
        since = max(now - self._accepted[0][0], 1.0)
        return sum(count for _, count in self._accepted) / since

    def _grow(self, now: float) -> None:
        if self._learned is None or self._stated:
            return
        passed = now - self._grown_at
        if passed >= 1.0:
            self._learned.rate *= (1 + RATE_GROWTH) ** min(passed, 10.0)
            self._grown_at = now

    def _learn(self, headers: Mapping[str, str], now: float) -> None:
        """A provider that states its limit need not be probed."""
        tokens = _number(headers.get("x-ratelimit-limit-tokens"))
        if tokens and (self._tokens is None or self._tokens_stated):
            if self._tokens is None:
                self._tokens, self._tokens_stated = TokenBucket(tokens / 60, now), True
            self._tokens.rate = tokens / 60 * HEADROOM
        limit = _number(headers.get("x-ratelimit-limit-requests"))
        if not limit or self._distrusted >= DISTRUST:
            return
        if self._learned is None:
            self._learned = TokenBucket(limit / 60, now)
        self._stated = True
        self._learned.rate = limit / 60 * HEADROOM
        if _number(headers.get("x-ratelimit-remaining-requests"), zero=True) == 0:
            self._learned.tokens = min(self._learned.tokens, 0.0)


def _number(text: str | None, *, zero: bool = False) -> float | None:
    """A header's number, where it is one above 0; or 0 where that means something."""
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and (number > 0 or (zero and number == 0)) else None
