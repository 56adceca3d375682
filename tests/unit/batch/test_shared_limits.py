from __future__ import annotations

import pytest

from qacli.batch.claims import describe_owners
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.progress import Progress
from qacli.batch.shared_limits import Allowance, LimitShare, is_throttled
from qacli.db.batches import WorkerStatus
from qacli.db.shared_limits import Grant
from qacli.errors import ProviderError, ProviderRefused, ProviderUnavailable


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def share_of(clock: Clock, **limits: float) -> tuple[LimitShare, AdaptiveLimiter]:
    limiter = AdaptiveLimiter(8, clock=clock, **limits)
    return LimitShare(limiter, Progress(0), lambda: 8, clock), limiter


def a_grant(
    requests: float | None = None,
    tokens: float | None = None,
    *,
    pause: float = 0.0,
    users: int = 1,
    learned: tuple[float, ...] = (),
) -> Grant:
    reason = "Slow down." if pause else ""
    return Grant(requests, tokens, 0.0, 0.0, pause, reason, users, learned)


def test_allowance_is_spent_evenly() -> None:
    allowance = Allowance(1.0)
    allowance.renew(4, now=10, seconds=1)
    assert allowance.delay(10) == 0
    allowance.spend(1, 10)
    assert allowance.delay(10) == pytest.approx(0.05), "a part may be spent at once"
    assert allowance.delay(10.05) == pytest.approx(0)
    allowance.spend(3, 10.25)
    assert allowance.delay(10.5) == pytest.approx(0.5), "until the next take"


def test_allowance_with_a_rate_is_spent_at_that_rate() -> None:
    allowance = Allowance(1.0)
    allowance.renew(40, now=10, seconds=1, rate=100)
    allowance.spend(30, 10)
    assert allowance.delay(10) == pytest.approx(0.1)
    assert allowance.delay(10.1) == pytest.approx(0)


def test_allowance_after_a_delay_is_not_spent_at_once() -> None:
    allowance = Allowance(1.0)
    allowance.renew(100, now=10, seconds=1)
    sent = 0
    while allowance.delay(10.9) == 0:
        allowance.spend(1, 10.9)
        sent += 1
    assert sent == 21


def test_allowance_given_back_counts_later_spending_for_the_next_amount() -> None:
    allowance = Allowance(1.0)
    allowance.renew(10, now=0, seconds=1)
    allowance.used = 4
    assert allowance.give_back() == 6
    allowance.used += 2  # while the database is asked
    allowance.renew(5, now=1, seconds=1)
    assert allowance.unused == 3


def test_allowance_without_a_limit_has_no_delay_and_nothing_unused() -> None:
    allowance = Allowance(1.0)
    assert allowance.delay(0) > 0, "before the first take"
    allowance.renew(None, now=0, seconds=1)
    allowance.used = 50
    assert (allowance.delay(0), allowance.unused) == (0, 0)


def test_share_waits_for_the_pause_of_another_worker(clock: Clock) -> None:
    share, limiter = share_of(clock)
    share.apply(a_grant(pause=30))
    assert limiter.delay() == 0
    assert share.delay() == 30
    assert share.pause == (30, "Slow down.")
    clock.now += 31
    assert share.delay() == 0


def test_share_reports_its_pause_and_its_need(clock: Clock) -> None:
    share, limiter = share_of(clock, rpm=600, tpm=6000)
    share.apply(a_grant(20, 9000))
    for _ in range(3):
        share.on_sent(100)
    for _ in range(100):
        sent_at = limiter.on_sent(100)
        limiter.on_throttled("Slow down.", {}, sent_at)
        limiter.on_finished()
        clock.now += 0.1
        if limiter.delay() and limiter.is_probing:
            break
    share.on_finished(100, 0)
    share.on_finished(100, 40)
    report = share.report()
    assert (report.request_rate, report.token_rate) == (10, 100)
    assert limiter.is_probing
    assert (report.pause, report.pause_reason) == (limiter.own_pause[0], "Slow down.")
    assert report.pause > 0
    assert (report.unused_requests, report.unused_tokens) == (17, 9000 - 240)
    assert report.requests == 8, "as many as there are jobs, at least"
    assert share.report(is_last=True).requests == 0


def test_share_that_joins_gets_an_equal_part_of_the_learned_rate(clock: Clock) -> None:
    share, limiter = share_of(clock)
    share.apply(a_grant(users=3, learned=(30.0, 60.0)))
    assert limiter.learned_rate == pytest.approx(30)


@pytest.mark.parametrize(("users", "rate"), [(3, 20.0), (2, 30.0), (1, 60.0)])
def test_share_changes_its_learned_rate_with_the_number_of_workers(
    clock: Clock, users: int, rate: float
) -> None:
    share, limiter = share_of(clock)
    share.apply(a_grant(users=2))
    limiter.set_learned_rate(30)
    share.apply(a_grant(users=users))
    assert limiter.learned_rate == pytest.approx(rate)


def test_share_with_a_stated_limit_reports_it_beside_the_learned_rate(clock: Clock) -> None:
    share, limiter = share_of(clock)
    limiter.on_success({"x-ratelimit-limit-requests": "6000"})
    assert limiter.learned_rate is None
    share.apply(a_grant(users=2, learned=(5.0,)))
    assert limiter.learned_rate == pytest.approx(2.5)
    assert limiter.rate == pytest.approx(2.5)
    assert share.report().request_rate == pytest.approx(100, rel=0.03)


def test_describe_owners_names_the_workers_that_have_the_items() -> None:
    workers = [
        WorkerStatus(f"{n}" * 32, "machine", f"host:{n}", n + 1, 0, 0, 9.0, 4.2, 60.0, None)
        for n in range(5)
    ]
    sentence = describe_owners(workers)
    assert sentence is not None
    assert "host:0 has 1, last seen 4 s ago; host:1 has 2" in sentence
    assert sentence.endswith("and 2 more")
    assert describe_owners([]) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProviderUnavailable("m", "", provider_status=429), True),
        (ProviderUnavailable("m", "", provider_status=503, retry_after=3), True),
        (ProviderUnavailable("m", "", provider_status=503), False),
        # larger than the limit of a minute, or an empty account
        (ProviderRefused("m", "", provider_status=429), False),
    ],
)
def test_is_throttled_of_a_refused_request_is_false(
    error: ProviderError, *, expected: bool
) -> None:
    assert is_throttled(error) == expected
