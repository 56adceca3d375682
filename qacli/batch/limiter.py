"""Limit the requests of a batch to the rate that the provider accepts, learned from its responses.

Three limits hold at once:

    request --> [ window ] -----> [ token buckets ] ----> [ pause ] ----> sent
                 AIMD: requests    requests and tokens     Retry-After
                 in flight         per second
                    ^                   ^                     ^
    success: + 1 (slow start),     x-ratelimit-* headers      |
             then + a part         success: rate + 1 % / s    |
    refused: x 0.7 or x 0.95       refused: rate x 0.97       seconds

- The window is additive increase, multiplicative decrease (AIMD, as TCP's congestion control, RFC
  5681): it doubles each round until a request is refused (slow start), then grows slowly.
- A token bucket refills at a steady rate. There is one for `--rpm`; one for tokens (`--tpm`, or the
  rate in the provider's headers); and one for the rate that the provider states in its
  `x-ratelimit-*` headers or, after it has refused a request, the rate that it has accepted.
- A pause stops the whole batch for the seconds of a `Retry-After` header.

All times are of a monotonic clock that is passed in, so that tests need not wait.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class LimiterConstants:
    """The constants of the algorithm.

    Attributes:
        initial_window: Requests in flight before the provider has stated or refused anything.
        window_after_pause: Requests in flight at most when a pause ends.
        decrease_factor: Applied to the window when many requests are refused.
        gentle_decrease_factor: Applied to the window when few are.
        many_refused: Requests are many if they are more than this part of all requests.
        increase_per_round: Added to the window in a round of requests, after a refusal.
        increase_min_part: The least that one success adds to the window, after a refusal.
        decrease_interval: Seconds in which several refusals count as one.
        max_distrust: Refusals within a stated limit after which it is ignored.
        rate_decrease_factor: Applied to the learned rate at a refusal.
        rate_growth: Added to the learned rate in a second without a refusal, as a part of it.
        max_growth_seconds: Maximum seconds without a refusal that are counted for the growth.
        observed_seconds: Seconds over which the accepted rate is measured.
        min_rate: Requests a second that the learned rate does not fall below.
        burst_seconds: Seconds' worth of tokens that a bucket holds.
        headroom: The part of a stated limit that is used: clocks differ.
        window_in_use: If less than this part of the window is used, a refusal is about the rate.
    """

    initial_window: float = 64.0
    window_after_pause: float = 16.0
    decrease_factor: float = 0.7
    gentle_decrease_factor: float = 0.95
    many_refused: float = 0.3
    increase_per_round: float = 0.1
    increase_min_part: float = 0.005
    decrease_interval: float = 1.0
    max_distrust: int = 3
    rate_decrease_factor: float = 0.97
    rate_growth: float = 0.01
    max_growth_seconds: float = 10.0
    observed_seconds: float = 10.0
    min_rate: float = 1 / 60
    burst_seconds: float = 0.2
    headroom: float = 0.98
    window_in_use: float = 0.8


CONSTANTS = LimiterConstants()


@dataclass(slots=True)
class TokenBucket:
    """An allowance that refills at a steady rate; it may be negative for a while."""

    rate: float
    now: float
    tokens: float = 0.0

    def refill(self, now: float) -> None:
        """Add the tokens for the time since the last refill."""
        burst = max(self.rate * CONSTANTS.burst_seconds, 1.0)
        self.tokens = min(self.tokens + (now - self.now) * self.rate, burst)
        self.now = now

    def wait(self) -> float:
        """Return the seconds until a token may be taken."""
        return 0.0 if self.tokens >= 0 else -self.tokens / self.rate


class AdaptiveLimiter:
    """The limiter of one batch in one process; not thread-safe, used by one event loop.

    Args:
        jobs: Maximum concurrent requests.
        rpm: Maximum requests per minute.
        tpm: Maximum tokens per minute.
        clock: Returns the seconds of a monotonic clock.

    Attributes:
        window: Maximum requests in flight at the moment.
        in_flight: Requests in flight.
        paused_until: The time at which a pause ends.
        pause_reason: The provider's message that caused the pause.
        refused: Requests that were refused so far.
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
        self.window = min(float(jobs), CONSTANTS.initial_window)
        self.in_flight = 0
        self.paused_until = 0.0
        self.pause_reason = ""
        self.refused = 0
        self._slow_start_threshold = float(jobs)
        self._clock = clock
        now = clock()
        self._option_bucket = TokenBucket(rpm / 60, now) if rpm else None
        self._token_bucket = TokenBucket(tpm / 60, now) if tpm else None
        self._token_limit_is_stated = False
        self._learned_bucket: TokenBucket | None = None
        self._grown_at = now
        self._decreased_at = -CONSTANTS.observed_seconds
        self._accepted: deque[tuple[float, int]] = deque()
        self._limit_is_stated = False
        self._distrust = 0
        self._refused_since_decrease = 0
        self._accepted_since_decrease = 0

    @property
    def rate(self) -> float | None:
        """Requests per second that are allowed at the moment; None is no limit."""
        buckets = (self._option_bucket, self._learned_bucket)
        rates = [bucket.rate for bucket in buckets if bucket is not None]
        return min(rates) if rates else None

    @property
    def stated_rates(self) -> tuple[float | None, float | None]:
        """Requests and tokens per second that an option or the provider has stated; None if not."""
        stated = self._learned_bucket if self._limit_is_stated else None
        rates = [bucket.rate for bucket in (self._option_bucket, stated) if bucket is not None]
        tokens = self._token_bucket
        return min(rates, default=None), None if tokens is None else tokens.rate

    @property
    def learned_rate(self) -> float | None:
        """Requests per second that were learned from refusals; None if no limit is known."""
        bucket = self._learned_bucket
        return None if bucket is None or self._limit_is_stated else bucket.rate

    def set_learned_rate(self, rate: float) -> None:
        """Use this rate, because the number of workers that share it has changed."""
        if not self._limit_is_stated:
            self._learned_bucket = TokenBucket(max(rate, CONSTANTS.min_rate), self._clock())

    @property
    def own_pause(self) -> tuple[float, str]:
        """The seconds for which nothing may be sent, and the provider's message."""
        return max(self.paused_until - self._clock(), 0.0), self.pause_reason

    def delay(self) -> float | None:
        """Return the seconds until a request may be sent; None while the window is full."""
        if self.in_flight >= max(int(self.window), 1):
            return None
        now = self._clock()
        self._grow_rate(now)
        waits = [self.paused_until - now]
        for bucket in (self._option_bucket, self._learned_bucket, self._token_bucket):
            if bucket is not None:
                bucket.refill(now)
                waits.append(bucket.wait())
        return max(*waits, 0.0)

    def on_sent(self, tokens: int) -> None:
        """Count a request that is sent, and its estimated tokens."""
        self.in_flight += 1
        for bucket in (self._option_bucket, self._learned_bucket):
            if bucket is not None:
                bucket.tokens -= 1
        if self._token_bucket is not None:
            self._token_bucket.tokens -= tokens

    def on_finished(self) -> None:
        """Count a request that has ended, with or without an answer."""
        self.in_flight -= 1

    def on_success(self, headers: Mapping[str, str], *, estimated: int = 0, used: int = 0) -> None:
        """Widen the window, and learn from the headers of an answer.

        Args:
            headers: The headers of the answer.
            estimated: The tokens that `on_sent` counted.
            used: The tokens that the provider counted; 0 is unknown.
        """
        now = self._clock()
        self._accepted_since_decrease += 1
        # Slow start up to the window of the last refusal; then additive increase.
        is_additive = self.refused and self.window >= self._slow_start_threshold
        step = CONSTANTS.increase_per_round / self.window
        step = max(step, CONSTANTS.increase_min_part) if is_additive else 1.0
        self.window = min(self.window + step, self.jobs)
        second = int(now)
        if self._accepted and self._accepted[-1][0] == second:
            self._accepted[-1] = (second, self._accepted[-1][1] + 1)
        else:
            self._accepted.append((second, 1))
        while self._accepted and self._accepted[0][0] < now - CONSTANTS.observed_seconds - 1:
            self._accepted.popleft()
        if self._token_bucket is not None and used:
            self._token_bucket.tokens += estimated - used
        self._learn(headers, now)

    def on_throttled(
        self, reason: str, retry_after: float | None, headers: Mapping[str, str]
    ) -> None:
        """Slow down, because the provider is overloaded or limits the rate.

        Args:
            reason: The provider's message.
            retry_after: The seconds of its Retry-After header.
            headers: The headers of the response.
        """
        now = self._clock()
        self.refused += 1
        self._refused_since_decrease += 1
        if retry_after is not None:
            self.pause(retry_after, reason)
        self._learn(headers, now)
        # Refusals of requests that were sent together count once.
        if now - self._decreased_at < CONSTANTS.decrease_interval:
            return
        self._decreased_at = now
        self._decrease_window()
        if self._limit_is_stated:
            self._distrust += 1
            self._limit_is_stated = self._distrust < CONSTANTS.max_distrust
        # A few refusals without Retry-After may have another cause than the rate.
        is_about_rate = (
            self._learned_bucket is not None
            and self.in_flight < self.window * CONSTANTS.window_in_use
        )
        if (retry_after is not None or is_about_rate) and not self._limit_is_stated:
            self._decrease_rate(now)

    def pause(self, seconds: float, reason: str) -> None:
        """Send nothing for these seconds: the whole batch waits, not only the refused request."""
        until = self._clock() + seconds
        if until > self.paused_until:
            self.paused_until, self.pause_reason = until, reason
        # Do not send all waiting requests at once after the pause.
        self.window = min(self.window, CONSTANTS.window_after_pause)

    def _decrease_window(self) -> None:
        total = self._refused_since_decrease + self._accepted_since_decrease
        gentle = min(self.window - 1, self.window * CONSTANTS.gentle_decrease_factor)
        if self._refused_since_decrease > total * CONSTANTS.many_refused:
            self._slow_start_threshold = max(self.window * CONSTANTS.decrease_factor, 1.0)
        else:
            self._slow_start_threshold = max(gentle, 1.0)
        self.window = min(self.window, self._slow_start_threshold)
        self._refused_since_decrease = self._accepted_since_decrease = 0

    def _decrease_rate(self, now: float) -> None:
        """Set the rate below the rate that was accepted lately."""
        accepted = self._accepted_rate(now)
        if self._learned_bucket is None:
            if accepted is None:
                return
            self._learned_bucket = TokenBucket(accepted, now)
        bucket = self._learned_bucket
        rate = min(bucket.rate, accepted or bucket.rate) * CONSTANTS.rate_decrease_factor
        bucket.rate = max(rate, CONSTANTS.min_rate)
        self._grown_at = now

    def _accepted_rate(self, now: float) -> float | None:
        """Return the requests per second that were accepted lately; None if none were."""
        if not self._accepted:
            return None
        seconds = max(now - self._accepted[0][0], 1.0)
        return sum(count for _, count in self._accepted) / seconds

    def _grow_rate(self, now: float) -> None:
        if self._learned_bucket is None or self._limit_is_stated:
            return
        seconds = now - self._grown_at
        if seconds >= 1.0:
            growth = 1 + CONSTANTS.rate_growth
            self._learned_bucket.rate *= growth ** min(seconds, CONSTANTS.max_growth_seconds)
            self._grown_at = now

    def _learn(self, headers: Mapping[str, str], now: float) -> None:
        """Use the limits in the provider's headers."""
        tokens = _parse_number(headers.get("x-ratelimit-limit-tokens"))
        if tokens and (self._token_bucket is None or self._token_limit_is_stated):
            if self._token_bucket is None:
                self._token_bucket = TokenBucket(tokens / 60, now)
                self._token_limit_is_stated = True
            self._token_bucket.rate = tokens / 60 * CONSTANTS.headroom
        limit = _parse_number(headers.get("x-ratelimit-limit-requests"))
        if not limit or self._distrust >= CONSTANTS.max_distrust:
            return
        if self._learned_bucket is None:
            self._learned_bucket = TokenBucket(limit / 60, now)
        self._limit_is_stated = True
        self._learned_bucket.rate = limit / 60 * CONSTANTS.headroom
        if _parse_number(headers.get("x-ratelimit-remaining-requests"), zero=True) == 0:
            self._learned_bucket.tokens = min(self._learned_bucket.tokens, 0.0)


def _parse_number(text: str | None, *, zero: bool = False) -> float | None:
    """Return a header's number if it is above 0, or 0 with `zero`; otherwise None."""
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and (number > 0 or (zero and number == 0)) else None
