from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from qacli.batch import shared_limits
from qacli.batch.database import DatabaseExecutor
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.progress import Progress
from qacli.batch.shared_limits import LimitShare
from qacli.db.batches import Batches
from qacli.db.shared_limits import LimitReport, SharedLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from qacli.db.records import Store

KEY = ("https://api.example/v1", "sk-0123456789", "m")


@pytest.fixture
def limits(store: Store) -> SharedLimits:
    return SharedLimits(store)


def age(store: Store, seconds: float) -> None:
    """Make the limits older by some seconds."""
    columns = ("filled_at", "request_rate_until", "token_rate_until", "paused_until")
    changes = ", ".join(f"{name} = {name} - {seconds}" for name in columns)
    with store.transaction(write=True) as connection:
        connection.execute(sa.text(f"UPDATE shared_limit SET {changes}"))  # noqa: S608


def register(store: Store, worker: str) -> None:
    Batches(store).register_worker(1, worker, "host", f"{worker}.worker")


def test_take_without_a_known_limit_grants_everything(limits: SharedLimits) -> None:
    grant = limits.take(limits.open(*KEY), "a", LimitReport(requests=5, tokens=100))
    assert (grant.requests, grant.tokens, grant.pause) == (None, None, 0)


def test_open_the_same_limit_twice_returns_one_row_without_the_key(
    limits: SharedLimits, store: Store
) -> None:
    assert limits.open(*KEY) == limits.open(*KEY)
    assert limits.open(*KEY) != limits.open(KEY[0], "sk-another", KEY[2])
    with store.transaction() as connection:
        rows = connection.execute(sa.text("SELECT * FROM shared_limit")).all()
    assert len(rows) == 2
    assert KEY[1] not in str(rows)


def test_take_of_several_workers_together_grants_a_seconds_worth(
    limits: SharedLimits, store: Store
) -> None:
    limit_id = limits.open(*KEY)
    # The rate is so low that nothing refills during the test.
    first = limits.take(limit_id, "a", LimitReport(request_rate=0.001, requests=0.75))
    assert first.requests == pytest.approx(0.75)
    second = limits.take(limit_id, "b", LimitReport(requests=9))
    assert second.requests == pytest.approx(0.25, abs=0.05)
    # A worker without a limit of its own uses that of the others.
    assert limits.take(limit_id, "c", LimitReport(requests=9)).requests == pytest.approx(
        0, abs=0.05
    )
    age(store, 100)
    assert limits.take(limit_id, "a", LimitReport(request_rate=0.001, requests=9)).requests == (
        pytest.approx(0.1, abs=0.05)
    )


def test_take_in_many_threads_grants_no_more_than_the_limit(limits: SharedLimits) -> None:
    limit_id = limits.open(*KEY)
    report = LimitReport(request_rate=0.01, requests=0.1)
    with ThreadPoolExecutor(8) as pool:
        grants = list(pool.map(lambda n: limits.take(limit_id, f"w{n}", report), range(40)))
    total = sum(grant.requests or 0.0 for grant in grants)
    # A hundredth of a request is added each second.
    assert 1 <= total + 1e-6 < 1.5


def test_take_after_giving_back_grants_that_again(limits: SharedLimits) -> None:
    limit_id = limits.open(*KEY)
    slow = LimitReport(request_rate=0.001, token_rate=0.001, requests=1, tokens=1)
    first = limits.take(limit_id, "a", slow)
    assert (first.requests, first.tokens) == (pytest.approx(1), pytest.approx(1))
    back = LimitReport(unused_requests=0.6, unused_tokens=-5)
    limits.take(limit_id, "a", back)
    second = limits.take(limit_id, "b", slow)
    assert second.requests == pytest.approx(0.6, abs=0.05)
    # Answers were longer than expected: the missing tokens count for all workers.
    assert second.tokens == 0


def test_take_of_workers_with_different_limits_uses_the_smallest_until_it_expires(
    limits: SharedLimits, store: Store
) -> None:
    limit_id = limits.open(*KEY)
    limits.take(limit_id, "a", LimitReport(request_rate=2, requests=99))
    high = LimitReport(request_rate=50, requests=99)
    age(store, 5)
    assert limits.take(limit_id, "b", high).requests == pytest.approx(2, abs=0.01)
    age(store, 6)
    # The other worker has not reported its limit for eleven seconds.
    granted = limits.take(limit_id, "b", high).requests
    assert granted == pytest.approx(50, abs=0.01)


def test_take_after_a_pause_of_another_worker_has_it(limits: SharedLimits, store: Store) -> None:
    limit_id = limits.open(*KEY)
    limits.take(limit_id, "a", LimitReport(pause=40, pause_reason="Slow down."))
    limits.take(limit_id, "a", LimitReport(pause=10, pause_reason="Shorter."))
    grant = limits.take(limit_id, "b", LimitReport())
    assert grant.pause == pytest.approx(40, abs=5)
    assert grant.pause_reason == "Slow down."
    age(store, 60)
    assert limits.take(limit_id, "b", LimitReport()).pause == 0


def test_take_has_the_learned_rates_of_the_other_live_processes(
    limits: SharedLimits, store: Store
) -> None:
    limit_id = limits.open(*KEY)
    for worker in ("b", "c"):
        register(store, worker)
    limits.take(limit_id, "expired", LimitReport(learned_rate=9))
    with store.transaction(write=True) as connection:
        connection.execute(
            sa.text("UPDATE limit_user SET seen_at = seen_at - 11 WHERE uid = 'expired'")
        )
    # A server, not a worker of a batch.
    assert limits.take(limit_id, "a", LimitReport()).users == 1
    limits.take(limit_id, "b", LimitReport(learned_rate=30))
    grant = limits.take(limit_id, "c", LimitReport(in_flight=7, finished=3))
    assert (grant.users, grant.learned_rates) == (3, (30.0,))
    by_uid = {worker.uid: worker for worker in Batches(store).worker_statuses(1)}
    assert (by_uid["c"].in_flight, by_uid["c"].finished) == (7, 3)
    assert by_uid["b"].learned_rate == 30
    with store.transaction() as connection:
        query = sa.text("SELECT uid FROM limit_user ORDER BY uid")
        assert list(connection.scalars(query)) == ["a", "b", "c"]


def test_status_has_limit_and_pause_of_the_batch(limits: SharedLimits, store: Store) -> None:
    register(store, "a")
    report = LimitReport(request_rate=10, pause=40, pause_reason="Slow down.")
    limits.take(limits.open(*KEY), "a", report)
    [status] = limits.status(1)
    assert (status.requests_per_minute, status.tokens_per_minute) == (600, None)
    assert status.pause_seconds == pytest.approx(40, abs=5)
    assert limits.status(2) == []


def test_share_with_a_new_stated_limit_takes_from_it_at_once(
    limits: SharedLimits, monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., object]
) -> None:
    monkeypatch.setattr(shared_limits, "TAKE_SECONDS", (999.0, 999.0))
    limiter, progress = AdaptiveLimiter(8), Progress(0)
    share = LimitShare(limiter, progress, lambda: 8)

    async def learn() -> None:
        database = DatabaseExecutor(progress, 0.0)
        running = asyncio.create_task(share.run(limits, database, "a", KEY))
        await asyncio.to_thread(wait_for, lambda: share.delay() == 0)
        limiter.on_success({"x-ratelimit-limit-requests": "6000"})
        share.on_finished(0, 0)
        other = limits.open(*KEY), "b", LimitReport(requests=9)
        await asyncio.to_thread(wait_for, lambda: limits.take(*other).requests is not None)
        running.cancel()
        await asyncio.wait([running])
        database.close()

    asyncio.run(learn())


def test_take_of_the_last_process_ends_its_rates(limits: SharedLimits) -> None:
    limit_id = limits.open(*KEY)
    for worker in ("a", "b"):
        limits.take(limit_id, worker, LimitReport(request_rate=1))
    limits.take(limit_id, "a", LimitReport(request_rate=1, is_last=True))
    assert limits.take(limit_id, "b", LimitReport(requests=9)).requests is not None
    limits.take(limit_id, "b", LimitReport(request_rate=1, is_last=True))
    assert limits.take(limit_id, "c", LimitReport(requests=9)).requests is None
