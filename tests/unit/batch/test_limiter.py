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
class Said:
    """What a provider answers: whether it takes the request, and with which headers."""

    good: bool
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class TokenBucket:
    """Takes as many requests a minute as it says, in bursts of some seconds' worth."""

    def __init__(
        self, clock: Clock, rpm: float, *, burst_seconds: float, stated: bool, told: bool = True
    ) -> None:
        self._clock, self._rpm, self._stated, self._told = clock, rpm, stated, told
        self._holds = rpm / MINUTE * burst_seconds
        self._tokens, self._at = self._holds, clock.now

    def ask(self) -> Said:
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
        return Said(good, None if good or not self._told else ceil(wait), headers)

    def ended(self) -> None:
        """A request is over."""


class Concurrent:
    """Takes only so many at once, and does not say when there is room again."""

    def __init__(self, most: int) -> None:
        self._most, self._open = most, 0

    def ask(self) -> Said:
        self._open += 1
        return Said(self._open <= self._most)

    def ended(self) -> None:
        """A request is over."""
        self._open -= 1


@dataclass
class Run:
    """A batch against a provider, all on one clock."""

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
    provider: TokenBucket | Concurrent,
    *,
    seconds: float,
    latency: float,
) -> Run:
    """Ask as the engine does: whoever is next waits for its turn; a refusal is quick."""
    done, chance = Run(), random.Random(7)
    active_items: list[tuple[float, int, Said]] = []
    began, number = clock.now, 0
    while clock.now < began + seconds:
        while active_items and active_items[0][0] <= clock.now:
            _, _, said = heapq.heappop(active_items)
            provider.ended()
            pace.on_finished()
            if said.good:
                pace.on_success(said.headers)
                done.good.append(clock.now - began)
            else:
                pace.on_throttled("too fast", said.retry_after, said.headers)
                done.refused.append(clock.now - began)
        while pace.delay() == 0:
            pace.on_sent(10)
            said, number = provider.ask(), number + 1
            takes = latency * chance.uniform(0.8, 1.2) if said.good else 0.02
            heapq.heappush(active_items, (clock.now + takes, number, said))
            done.sent.append(clock.now - began)
        clock.now += STEP
    return done


@pytest.mark.parametrize("stated", [True, False], ids=["x-ratelimit", "retry-after-only"])
@pytest.mark.parametrize("burst_seconds", [1.0, 60.0])
@pytest.mark.parametrize("jobs", [32, 256])
def test_limiter_settles_just_below_a_limit_for_each_minute(
    stated: bool,
    burst_seconds: float,
    jobs: int,
) -> None:
    clock = Clock()
    provider = TokenBucket(clock, 600, burst_seconds=burst_seconds, stated=stated)
    seconds = 600
    done = run(AdaptiveLimiter(jobs, clock=clock), clock, provider, seconds=seconds, latency=0.5)
    assert done.share_refused(0 if jobs == 32 else 60) < 0.05
    # Once what the bucket held at first is used up.
    assert done.rate(120, seconds) >= 0.95 * 10


def test_limiter_settles_below_an_unstated_limit() -> None:
    clock = Clock()
    provider = TokenBucket(clock, 600, burst_seconds=1, stated=False, told=False)
    done = run(AdaptiveLimiter(64, clock=clock), clock, provider, seconds=600, latency=0.5)
    assert done.share_refused(60) < 0.05
    assert done.rate(60, 600) >= 0.95 * 10


@pytest.mark.parametrize("most", [8, 50])
def test_limiter_settles_just_below_a_limit_of_concurrency(most: int) -> None:
    clock = Clock()
    latency = 0.5
    done = run(
        AdaptiveLimiter(256, clock=clock), clock, Concurrent(most), seconds=300, latency=latency
    )
    assert done.share_refused(60) < 0.05
    assert done.rate(60, 300) >= 0.95 * most / latency


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


def test_limiter_retry_after_pauses_all_jobs_with_a_reason() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(8, clock=clock)
    pace.on_sent(1)
    pace.on_sent(1)
    pace.on_finished()
    pace.on_throttled("The provider answered 429.", 30, {})
    assert pace.delay() == 30
    assert pace.paused_until == clock.now + 30
    assert pace.pause_reason == "The provider answered 429."
    # Another answer does not end it, and a shorter pause does not shorten it.
    pace.on_finished()
    pace.on_success({})
    pace.on_throttled("again", 1, {})
    assert pace.delay() == 30
    clock.now += 29.5
    assert pace.delay() == pytest.approx(0.5)
    clock.now += 0.5
    assert pace.delay() == 0


def test_limiter_after_a_pause_starts_slowly() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(200, clock=clock)
    pace.window = 200.0
    for _ in range(200):
        assert pace.delay() == 0
        pace.on_sent(1)
    for _ in range(200):
        pace.on_finished()
        pace.on_throttled("overloaded", 5, {})
    at_once = Counter[int]()
    for _ in range(int(8 / STEP)):
        while pace.delay() == 0:
            pace.on_sent(1)
            at_once[int(clock.now / 0.05)] += 1
        clock.now += STEP
    assert at_once
    assert max(at_once.values()) <= 50


def test_limiter_window_stays_between_one_and_the_jobs() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(16, clock=clock)
    for _ in range(50):
        clock.now += 2
        pace.on_throttled("no", None, {})
        assert 1 <= pace.window <= 16
    assert pace.window == 1
    assert pace.delay() is not None
    pace.on_sent(1)
    assert pace.delay() is None
    pace.on_finished()
    for _ in range(2000):
        clock.now += 0.1
        pace.on_success({})
        assert 1 <= pace.window <= 16
    assert pace.window == 16


def test_limiter_refusals_of_one_round_narrow_the_window_once() -> None:
    clock = Clock()
    pace = AdaptiveLimiter(100, clock=clock)
    pace.window = 100.0
    for _ in range(50):
        pace.on_throttled("no", None, {})
    assert 50 < pace.window < 100


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
    # It may change while the batch runs, and nonsense changes nothing.
    pace.on_success({"x-ratelimit-limit-requests": "1200"})
    assert pace.rate == pytest.approx(20, rel=0.05)
    for value in ("", "0", "many", "-1", "nan", "inf"):
        pace.on_success({"x-ratelimit-limit-requests": value})
        assert pace.rate == pytest.approx(20, rel=0.05)


def test_limiter_limit_of_another_period_is_found() -> None:
    class Daily(TokenBucket):
        """States its requests a day, as Groq does, and refuses by the minute."""

        def ask(self) -> Said:
            said = super().ask()
            return Said(said.good, said.retry_after, {"x-ratelimit-limit-requests": "864000"})

    clock = Clock()
    provider = Daily(clock, 600, burst_seconds=1, stated=False)
    done = run(AdaptiveLimiter(64, clock=clock), clock, provider, seconds=600, latency=0.5)
    assert done.share_refused(60) < 0.05
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
