from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

import pytest

from qacli.batch.limiter import AdaptiveLimiter

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUTE = 60
STEP = 0.005


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Response:
    """The response of a provider: whether it accepts the request, and its headers."""

    good: bool
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class TokenBucket:
    """A provider with a limit of requests a minute, and a burst of some seconds."""

    def __init__(
        self, clock: Clock, rpm: float, *, burst_seconds: float, stated: bool, told: bool = True
    ) -> None:
        self._clock, self._rpm, self._stated, self._told = clock, rpm, stated, told
        self._holds = rpm / MINUTE * burst_seconds
        self._tokens, self._at = self._holds, clock.now

    def ask(self) -> Response:
        now = self._clock.now
        self._tokens += (now - self._at) * self._rpm / MINUTE
        self._tokens, self._at = min(self._tokens, self._holds), now
        good = self._tokens >= 1
        self._tokens -= good
        wait = (1 - self._tokens) * MINUTE / self._rpm
        headers = {}
        if self._stated:
            headers = {
                "x-ratelimit-limit-requests": f"{self._rpm:g}",
                "x-ratelimit-remaining-requests": f"{int(self._tokens)}",
                "x-ratelimit-reset-requests": f"{max(wait, 0):.3f}s",
            }
        return Response(good, None if good or not self._told else ceil(wait), headers)

    def ended(self) -> None:
        """Called when a request has ended."""


class Concurrent:
    """A provider with a limit of concurrent requests, and no Retry-After."""

    def __init__(self, most: int) -> None:
        self._most, self._open = most, 0

    def ask(self) -> Response:
        self._open += 1
        return Response(self._open <= self._most)

    def ended(self) -> None:
        """Called when a request has ended."""
        self._open -= 1


@dataclass
class Run:
    """A simulated batch at a provider, both on one clock."""

    sent: list[float] = field(default_factory=list, repr=False)
    good: list[float] = field(default_factory=list, repr=False)
    refused: list[float] = field(default_factory=list, repr=False)

    def share_refused(self, since: float) -> float:
        refused = sum(at >= since for at in self.refused)
        return refused / max(sum(at >= since for at in self.sent), 1)

    def rate(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.good) / (until - since)


def run(
    pace: AdaptiveLimiter,
    clock: Clock,
    provider: TokenBucket | Concurrent | Noise | Outage,
    *,
    seconds: float,
    latency: float,
) -> Run:
    """Send requests one after the other as the runner does; a refusal takes less time."""
    done, chance = Run(), random.Random(7)
    active_items: list[tuple[float, int, Response, float]] = []
    began, number = clock.now, 0
    while clock.now < began + seconds:
        while active_items and active_items[0][0] <= clock.now:
            _, _, said, sent_at = heapq.heappop(active_items)
            provider.ended()
            pace.on_finished()
            if said.good:
                pace.on_success(said.headers)
                done.good.append(clock.now - began)
            else:
                pace.on_throttled("too fast", said.headers, sent_at)
                done.refused.append(clock.now - began)
        while pace.delay() == 0:
            sent_at = pace.on_sent(10)
            said, number = provider.ask(), number + 1
            takes = latency * chance.uniform(0.8, 1.2) if said.good else 0.02
            heapq.heappush(active_items, (clock.now + takes, number, said, sent_at))
            done.sent.append(clock.now - began)
        clock.now += STEP
    return done


@pytest.mark.parametrize("stated", [True, False], ids=["x-ratelimit", "retry-after-only"])
@pytest.mark.parametrize("burst_seconds", [1.0, 60.0])
@pytest.mark.parametrize("jobs", [32, 256])
def test_limiter_limit_per_minute_is_used_with_few_refusals(
    stated: bool,
    burst_seconds: float,
    jobs: int,
) -> None:
    clock = Clock()
    provider = TokenBucket(clock, 600, burst_seconds=burst_seconds, stated=stated)
    seconds = 600
    done = run(AdaptiveLimiter(jobs, clock=clock), clock, provider, seconds=seconds, latency=0.5)
    assert done.share_refused(60) < (0.05 if stated else 0.3)
    # After the initial content of the bucket is used up.
    assert done.rate(120, seconds) >= 0.95 * 10


def test_limiter_unstated_limit_is_used_with_few_refusals() -> None:
    clock = Clock()
    provider = TokenBucket(clock, 600, burst_seconds=1, stated=False, told=False)
    done = run(AdaptiveLimiter(64, clock=clock), clock, provider, seconds=600, latency=0.5)
    assert done.share_refused(60) < 0.3
    assert done.rate(60, 600) >= 0.95 * 10


@pytest.mark.parametrize("most", [8, 50])
def test_limiter_limit_of_concurrency_is_used_with_few_refusals(most: int) -> None:
    clock = Clock()
    latency = 0.5
    done = run(
        AdaptiveLimiter(256, clock=clock), clock, Concurrent(most), seconds=300, latency=latency
    )
    assert done.share_refused(60) < 0.4
    assert done.rate(60, 300) >= 0.75 * most / latency


def test_limiter_without_a_limit_uses_all_jobs() -> None:
    clock = Clock()
    done = run(AdaptiveLimiter(40, clock=clock), clock, Concurrent(1000), seconds=20, latency=0.5)
    assert done.rate(5, 20) >= 0.97 * 40 / 0.5
    assert not done.refused


@pytest.mark.parametrize(("rpm", "tpm"), [(600, None), (None, 6000), (600, 60_000)])
def test_limiter_configured_limit_is_obeyed_and_used(rpm: float | None, tpm: float | None) -> None:
    clock = Clock()
    pace = AdaptiveLimiter(256, rpm=rpm, tpm=tpm, clock=clock)
    done = run(pace, clock, Concurrent(1000), seconds=120, latency=0.5)
    buckets = Counter(int(at // 10) for at in done.sent)
    assert max(buckets.values()) <= 103
    assert done.rate(10, 120) >= 0.97 * 10


def test_limiter_counts_used_tokens() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(256, tpm=6000, clock=clock)
    sent = 0
    for _ in range(int(60 / STEP)):
        while pace.delay() == 0:
            pace.on_sent(1)
            pace.on_finished()
            pace.on_success({}, estimated=1, used=100)
            sent += 1
        clock.now += STEP
    assert 50 <= sent <= 62


class Noise:
    """A provider that refuses a part of all requests, at any rate."""

    def __init__(self, part: float) -> None:
        self._part, self._chance = part, random.Random(3)

    def ask(self) -> Response:
        return Response(self._chance.random() >= self._part, 1)

    def ended(self) -> None:
        """Called when a request has ended."""


class Outage:
    """A provider that refuses all requests for some seconds."""

    def __init__(self, clock: Clock, begin: float, end: float) -> None:
        self._clock, self._begin, self._end = clock, clock.now + begin, clock.now + end
        self.refused = 0

    def ask(self) -> Response:
        good = not self._begin <= self._clock.now < self._end
        self.refused += not good
        return Response(good, 1)

    def ended(self) -> None:
        """Called when a request has ended."""


@pytest.mark.parametrize("part", [0.03, 0.1, 0.3])
def test_limiter_random_refusals_do_not_lower_the_rate(part: float) -> None:
    clock = Clock()
    done = run(AdaptiveLimiter(32, clock=clock), clock, Noise(part), seconds=60, latency=0.5)
    # A refusal takes 20 ms and an answer 500 ms, so almost all jobs always wait for an answer.
    assert done.rate(10, 60) >= 0.9 * 32 / (0.5 + 0.02 * part / (1 - part))


def test_limiter_outage_gets_single_probes_and_the_rate_comes_back() -> None:
    clock = Clock()
    provider = Outage(clock, 10, 40)
    limiter = AdaptiveLimiter(64, clock=clock)
    done = run(limiter, clock, provider, seconds=60, latency=1.0)
    assert provider.refused < 450
    assert done.rate(51, 60) >= 0.9 * 64
    assert not limiter.is_probing


def test_limiter_closed_sends_one_request_at_a_time() -> None:
    clock = Clock()
    limiter = AdaptiveLimiter(16, clock=clock)
    run(limiter, clock, Outage(clock, 0, 1000), seconds=20, latency=0.5)
    assert limiter.is_probing
    assert limiter.window == 1
    assert limiter.last_refusal == "too fast"
    assert limiter.refused < 350


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "rate"),
    [
        ("600", "599", "100ms", 10),
        ("600", None, None, 10),
        ("10", "9", "0.1", 10),
        ("10", "4", "600ms", 10),
        ("6000", "20", "800ms", 100),
        ("14400", "14370", "2m59.56s", None),
        ("600", "100", "50", 10),
        ("600", "100", "soon", 10),
    ],
)
def test_limiter_stated_limit_has_the_period_of_its_reset(
    limit: str, remaining: str | None, reset: str | None, rate: float | None
) -> None:
    names = ("limit", "remaining", "reset")
    headers = {
        f"x-ratelimit-{name}-requests": value
        for name, value in zip(names, (limit, remaining, reset), strict=True)
        if value is not None
    }
    limiter = AdaptiveLimiter(8, clock=Clock())
    limiter.on_success(headers)
    assert limiter.rate == (None if rate is None else pytest.approx(rate, rel=0.03))


def test_limiter_stopped_clock_delays_only_paused_requests() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(1000, clock=clock)
    for _ in range(500):
        assert pace.delay() == 0
        pace.on_sent(1)
        pace.on_finished()
        pace.on_success({})
    limited = AdaptiveLimiter(1000, rpm=600, clock=clock)
    sent = 0
    while limited.delay() == 0:
        limited.on_sent(1)
        sent += 1
    assert 1 <= sent <= 3
    assert 0 < (limited.delay() or 0) <= 1


def test_limiter_after_a_long_sleep_has_no_burst() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(1000, rpm=600, tpm=6000, clock=clock)
    provider = TokenBucket(clock, 600, burst_seconds=1, stated=False)
    run(pace, clock, provider, seconds=30, latency=0.5)
    clock.now += 8 * 3600
    sent = 0
    while pace.delay() == 0:
        pace.on_sent(1)
        sent += 1
    assert 1 <= sent <= 5
    assert (pace.rate or 0) <= 10 * 1.2


def test_limiter_stated_limit_is_obeyed_from_the_start() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(64, clock=clock)
    assert pace.rate is None
    pace.on_sent(1)
    pace.on_finished()
    pace.on_success({"x-ratelimit-limit-requests": "600"})
    assert pace.rate == pytest.approx(10, rel=0.05)
    assert (pace.rate or 0) <= 10
    # The limit may change while the batch runs; invalid values change nothing.
    pace.on_success({"x-ratelimit-limit-requests": "1200"})
    assert pace.rate == pytest.approx(20, rel=0.05)
    for value in ("", "0", "many", "-1", "nan", "inf"):
        pace.on_success({"x-ratelimit-limit-requests": value})
        assert pace.rate == pytest.approx(20, rel=0.05)


def test_limiter_limit_of_another_period_is_found() -> None:
    class Daily(TokenBucket):
        """A provider that states its requests a day, as Groq does, and limits those a minute."""

        def ask(self) -> Response:
            said = super().ask()
            return Response(said.good, said.retry_after, {"x-ratelimit-limit-requests": "864000"})

    clock = Clock()
    provider = Daily(clock, 600, burst_seconds=1, stated=False)
    done = run(AdaptiveLimiter(64, clock=clock), clock, provider, seconds=600, latency=0.5)
    assert done.share_refused(60) < 0.3
    assert done.rate(60, 600) >= 0.9 * 10


def test_limiter_stated_limit_of_tokens_is_obeyed() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(64, clock=clock)
    pace.on_sent(1000)
    pace.on_finished()
    stated = {"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "59000"}
    pace.on_success(stated, estimated=1000, used=1000)
    sent = 0
    for _ in range(int(30 / STEP)):
        while pace.delay() == 0:
            pace.on_sent(1000)
            pace.on_finished()
            pace.on_success(stated, estimated=1000, used=1000)
            sent += 1
            assert sent <= 35
        clock.now += STEP
