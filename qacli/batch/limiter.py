"""Limit the requests of a batch: stated limits, and the pace that is learned from refusals.

    request --> [ jobs ] --> [ token buckets ] ---------> [ pace ] --> sent
                in flight     --rpm, --tpm and the         see `qacli.batch.pace`
                              provider's x-ratelimit-*

A token bucket refills at a steady rate. There is one for `--rpm`, one for tokens (`--tpm`, or the
rate in the provider's headers), and one for the requests that the provider states in its
`x-ratelimit-*` headers. A `Retry-After` header holds for its own request; the runner waits for it.

All times are of a monotonic clock that is passed in, so that tests need not wait.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

from qacli.batch.pace import Pace

BURST_SECONDS = 0.2
"""Seconds' worth of tokens that a bucket holds."""

HEADROOM = 0.98
"""The part of a stated limit that is used, because clocks differ."""

MAX_USED = 0.8
"""The used part of a limit beyond which its headers do not show that it is one per second."""

MINUTE = 60.0
DAY = 86_400.0
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")


@dataclass(slots=True)
class TokenBucket:
    """An allowance that refills at a steady rate; it may be negative for a while."""

    rate: float
    now: float
    tokens: float = 0.0

    def refill(self, now: float) -> None:
        """Add the tokens for the time since the last refill."""
        burst = max(self.rate * BURST_SECONDS, 1.0)
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
        in_flight: Requests in flight.
        refused: Requests that were refused so far.
        last_refusal: The provider's last message of a refusal.
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
        self.in_flight = 0
        self.refused = 0
        self.last_refusal = ""
        self._clock = clock
        now = clock()
        self._pace = Pace(jobs, now)
        self._option_bucket = TokenBucket(rpm / MINUTE, now) if rpm else None
        self._token_bucket = TokenBucket(tpm / MINUTE, now) if tpm else None
        self._token_limit_is_stated = False
        self._stated_bucket: TokenBucket | None = None
        self._units_per_second: set[str] = set()

    @property
    def rate(self) -> float | None:
        """Requests per second that are allowed at the moment; None means no limit."""
        rates = [rate for rate in (self.stated_rates[0], self._pace.rate) if rate is not None]
        return min(rates) if rates else None

    @property
    def stated_rates(self) -> tuple[float | None, float | None]:
        """Requests and tokens per second that an option or the provider has stated; None if not."""
        buckets = (self._option_bucket, self._stated_bucket)
        rates = [bucket.rate for bucket in buckets if bucket is not None]
        tokens = self._token_bucket
        return min(rates, default=None), None if tokens is None else tokens.rate

    @property
    def learned_rate(self) -> float | None:
        """Requests per second that were learned from refusals; None if no limit is known."""
        return self._pace.rate

    def set_learned_rate(self, rate: float) -> None:
        """Use this rate, because the number of workers that share it has changed."""
        self._pace.set_rate(rate, self._clock())

    @property
    def own_pause(self) -> tuple[float, str]:
        """The seconds until the next probe if every request is refused, and the last refusal."""
        seconds = self._pace.seconds_to_probe(self._clock())
        return seconds, self.last_refusal if seconds else ""

    @property
    def window(self) -> int:
        """Maximum requests in flight at the moment."""
        return 1 if self.is_probing else max(int(self._pace.window), 1)

    @property
    def is_probing(self) -> bool:
        """True while the provider refuses every request, so that only probes are sent."""
        return self._pace.is_probing

    def delay(self) -> float | None:
        """Return the seconds until a request may be sent; None while too many are in flight."""
        if self.in_flight >= self.jobs:
            return None
        now = self._clock()
        delay = self._pace.delay(now, self.in_flight)
        if delay is None:
            return None
        waits = [delay]
        for bucket in (self._option_bucket, self._stated_bucket, self._token_bucket):
            if bucket is not None:
                bucket.refill(now)
                waits.append(bucket.wait())
        return max(waits)

    def on_sent(self, tokens: int) -> float:
        """Count a request that is sent, and its estimated tokens; return the present time."""
        now = self._clock()
        self.in_flight += 1
        self._pace.on_sent(now)
        for bucket in (self._option_bucket, self._stated_bucket):
            if bucket is not None:
                bucket.tokens -= 1
        if self._token_bucket is not None:
            self._token_bucket.tokens -= tokens
        return now

    def on_finished(self) -> None:
        """Count a request that has ended, with or without an answer."""
        self.in_flight -= 1

    def on_success(self, headers: Mapping[str, str], *, estimated: int = 0, used: int = 0) -> None:
        """Learn from the headers of an answer, and count its tokens.

        Args:
            headers: The headers of the answer.
            estimated: The tokens that `on_sent` counted.
            used: The tokens that the provider counted; 0 is unknown.
        """
        if self._token_bucket is not None and used:
            self._token_bucket.tokens += estimated - used
        self._learn(headers)

    def on_throttled(self, reason: str, headers: Mapping[str, str], sent_at: float) -> None:
        """Count a request that the provider refused, because it is overloaded or limits the rate.

        Args:
            reason: The provider's message.
            headers: The headers of the response.
            sent_at: The time that `on_sent` returned.
        """
        self.refused += 1
        self.last_refusal = reason
        self._pace.on_refused(self._clock(), sent_at)
        self._learn(headers)

    def _learn(self, headers: Mapping[str, str]) -> None:
        """Use the limits in the provider's headers."""
        now = self._clock()
        rate = self._stated_rate(headers, "tokens")
        if rate and (self._token_bucket is None or self._token_limit_is_stated):
            if self._token_bucket is None:
                self._token_bucket = TokenBucket(rate, now)
                self._token_limit_is_stated = True
            self._token_bucket.rate = rate * HEADROOM
        rate = self._stated_rate(headers, "requests")
        if rate:
            if self._stated_bucket is None:
                self._stated_bucket = TokenBucket(rate, now)
            self._stated_bucket.rate = rate * HEADROOM
            if _parse_number(headers.get("x-ratelimit-remaining-requests"), zero=True) == 0:
                self._stated_bucket.tokens = min(self._stated_bucket.tokens, 0.0)

    def _stated_rate(self, headers: Mapping[str, str], unit: str) -> float | None:
        """Return the stated limit per second; None without one, and for one of a long period.

        A limit for a day is ignored. A period of a second is kept once it was recognised.
        """
        limit = _stated_limit(headers, unit)
        if limit is None or limit[1] > MINUTE:
            return None
        if limit[1] < MINUTE:
            self._units_per_second.add(unit)
        return limit[0] / (1.0 if unit in self._units_per_second else MINUTE)


def _stated_limit(headers: Mapping[str, str], unit: str) -> tuple[float, float] | None:
    """Return the stated limit and its period in seconds; None if none is stated.

    The headers do not name their period. It is a minute. It is longer if the next reset is more
    than a minute away, and a second if the reset fits such a limit of which a part is used. If most
    is used, it could also be a limit per minute of which only a few seconds' worth can be saved up.
    """
    limit = _parse_number(headers.get(f"x-ratelimit-limit-{unit}"))
    if not limit:
        return None
    remaining = _parse_number(headers.get(f"x-ratelimit-remaining-{unit}"), zero=True)
    reset = _parse_duration(headers.get(f"x-ratelimit-reset-{unit}"))
    if remaining is None or reset is None:
        return limit, MINUTE
    if reset > MINUTE:
        return limit, DAY
    used = 1 - remaining / limit
    is_per_second = reset <= 1 and used / 2 <= reset <= used * 2 and 0 < used < MAX_USED
    return limit, 1.0 if is_per_second else MINUTE


def _parse_duration(text: str | None) -> float | None:
    """Return the seconds of a text such as `1.5`, `6m0s` or `20ms`; None for other texts."""
    number = _parse_number(text, zero=True)
    if number is not None or not text:
        return number
    match = _DURATION.fullmatch(text.strip())
    if match is None or not match.group():
        return None
    factors = (86_400, 3600, 60, 1, 0.001)
    try:
        return sum(
            float(part) * factor
            for part, factor in zip(match.groups(), factors, strict=True)
            if part
        )
    except ValueError:
        return None


def _parse_number(text: str | None, *, zero: bool = False) -> float | None:
    """Return a header's number if it is above 0, or 0 with `zero`; otherwise None."""
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and (number > 0 or (zero and number == 0)) else None
