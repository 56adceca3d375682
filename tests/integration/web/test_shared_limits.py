from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from conftest import KEY
from fake_provider import FakeProvider, Reply

from qacli.db.shared_limits import LimitReport, SharedLimits
from qacli.web import state

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Program
    from flask import Flask
    from werkzeug.test import TestResponse

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]
CHAT = {"model": "test-model", "messages": [{"role": "user", "content": "Who am I?"}]}
SLOW = LimitReport(request_rate=0.001, requests=1)


@pytest.fixture
def limits(store: Store) -> SharedLimits:
    return SharedLimits(store)


@pytest.fixture
def limit_id(limits: SharedLimits, provider: FakeProvider) -> int:
    return limits.open(provider.base_url, KEY, "test-model")


def ask(app: Flask, number: int = 0, **headers: str) -> TestResponse:
    body = {"question": f"Server {number}"}
    return app.test_client().post("/ask", json=body, headers=headers)


def users(store: Store) -> set[str]:
    with store.transaction() as connection:
        return set(connection.scalars(sa.text("SELECT uid FROM limit_user")))


def test_server_and_batch_share_the_rate_limit(
    qa: Program, build: Callable[..., Flask], tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    (tmp_path / "questions.txt").write_text("".join(f"Batch {n}\n" for n in range(40)))
    with FakeProvider(rpm=1200, burst=20) as provider:
        app = build(shared_limits=60.0, retries=5, base_url=provider.base_url)
        qa.env["OPENAI_BASE_URL"] = provider.base_url
        options = ("--rpm", "1200", "-q")
        batch = qa.start("batch", "questions.txt", *options, stdout=DEVNULL, stderr=DEVNULL)
        wait_for(lambda: provider.requests)
        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(lambda n: ask(app, n).status_code, range(40)))
        assert batch.wait(60) == 0
    assert set(statuses) == {200}
    assert len({request.question for request in provider.requests}) == 80
    # Each of the two alone would use the whole limit.
    assert provider.stats.get("rate_limited", 0) <= 8, provider.stats


def test_server_waits_for_the_pause_of_a_batch(
    build: Callable[..., Flask],
    limits: SharedLimits,
    limit_id: int,
    provider: FakeProvider,
    store: Store,
    problem: Problem,
) -> None:
    limits.take(limit_id, "worker", LimitReport(pause=40, pause_reason="Slow down."))
    app = build(shared_limits=20.0)
    response = ask(app)
    detail = problem(response, 429, "shared-limit-reached")["detail"]
    assert 30 <= int(response.headers["Retry-After"]) <= 40
    assert "Slow down." in detail
    assert provider.requests == []
    [record] = [record.to_dict() for record in store.page(limit=9)]
    assert (record["status"], record["error_kind"]) == ("failed", "shared-limit-reached")
    chat = app.test_client().post("/v1/chat/completions", json=CHAT)
    assert (chat.status_code, chat.get_json()["error"]["code"]) == (429, "shared_limit_reached")
    assert int(chat.headers["Retry-After"]) >= 30


def test_server_whose_requests_are_all_refused_pauses_the_batches(
    build: Callable[..., Flask],
    limits: SharedLimits,
    limit_id: int,
    provider: FakeProvider,
    wait_for: Callable[..., Any],
) -> None:
    provider.default = Reply(status=429)
    app = build(shared_limits=0.1, retries=0)

    def pause() -> float:
        assert ask(app).status_code in {429, 503}
        return limits.take(limit_id, "worker", LimitReport()).pause

    assert 0 < wait_for(pause) <= 6


def test_server_wait_for_a_shared_limit_too_long_is_refused_until_it_is_free(
    build: Callable[..., Flask],
    limits: SharedLimits,
    limit_id: int,
    provider: FakeProvider,
    store: Store,
    problem: Problem,
) -> None:
    assert limits.take(limit_id, "worker", SLOW).requests == 1
    app = build(shared_limits=0.2)
    key = {"Idempotency-Key": "k"}
    refused = ask(app, **key)
    problem(refused, 429, "shared-limit-reached")
    assert refused.headers["Retry-After"] == "1"
    assert provider.requests == []
    limits.take(limit_id, "worker", LimitReport(request_rate=1000, is_last=True))
    with store.transaction(write=True) as connection:
        connection.execute(sa.text("UPDATE shared_limit SET request_rate_until = 0"))
    while (answered := ask(app, **key)).status_code == 429:
        pass
    assert answered.status_code == 200, answered.text
    statuses = [record.status for record in store.page(limit=99)]
    assert (statuses.count("answered"), set(statuses)) == (1, {"answered", "failed"})


def test_server_shares_no_limits_by_default(
    build: Callable[..., Flask],
    limits: SharedLimits,
    limit_id: int,
    store: Store,
) -> None:
    limits.take(limit_id, "worker", LimitReport(pause=40, pause_reason="Slow down."))
    assert ask(build()).status_code == 200
    assert users(store) == {"worker"}


def test_server_closed_gives_up_its_share(
    build: Callable[..., Flask], limits: SharedLimits, limit_id: int, store: Store
) -> None:
    limits.take(limit_id, "worker", LimitReport(request_rate=50))
    app = build(shared_limits=5.0)
    assert [ask(app).status_code for _ in range(9)] == [200] * 9
    [server] = users(store) - {"worker"}
    assert len(server) == 32
    app.extensions[state.EXTENSION_KEY].providers.close()
    assert users(store) == {"worker"}
