from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from limits import parse

from qacli.db.rate_counts import count_event
from qacli.db.records import Store
from qacli.web.rate_limit import RateLimiter

if TYPE_CHECKING:
    from pathlib import Path

    from fake_provider import FakeProvider
    from flask import Flask


Problem = Callable[..., dict[str, Any]]
ASK = {"question": "Who am I?"}

# One database: nothing here depends on its kind.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def as_bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.usefixtures("store")
@on_sqlite
def test_rate_limit_counts_each_token(
    build: Callable[..., Flask], provider: FakeProvider, problem: Problem
) -> None:
    client = build(rate_limit="2/day", tokens="alice=a,bob=b").test_client()
    for left in ("1", "0"):
        response = client.post("/ask", json=ASK, headers=as_bearer("a"))
        assert response.status_code == 200
        assert response.headers["RateLimit-Policy"] == '"2-per-day";q=2;w=86400'
        assert response.headers["RateLimit"].startswith(f'"2-per-day";r={left};t=86')
    refused = client.post("/ask", json=ASK, headers=as_bearer("a"))
    problem(refused, 429, "rate-limited")
    assert 86000 < int(refused.headers["Retry-After"]) <= 86401
    assert refused.headers["RateLimit"].startswith('"2-per-day";r=0;t=')
    assert len(provider.requests) == 2
    # Reading is not limited, and another token has its own limit.
    assert client.get("/qas", headers=as_bearer("a")).status_code == 200
    assert "RateLimit" not in client.get("/qas", headers=as_bearer("a")).headers
    assert client.post("/ask", json=ASK, headers=as_bearer("b")).status_code == 200
    # A request without a token counts for no token.
    problem(client.post("/ask", json=ASK), 401, "unauthorized")


@pytest.mark.usefixtures("store")
@on_sqlite
def test_rate_limit_without_tokens_counts_each_address(build: Callable[..., Flask]) -> None:
    client = build(rate_limit="1/day").test_client()

    def ask(address: str) -> int:
        return client.post("/ask", json=ASK, environ_base={"REMOTE_ADDR": address}).status_code

    assert [ask("192.0.2.1"), ask("192.0.2.1"), ask("192.0.2.2")] == [200, 429, 200]


@pytest.mark.usefixtures("store")
@on_sqlite
def test_rate_limit_counts_every_asking_route(build: Callable[..., Flask]) -> None:
    client = build(rate_limit="1/day").test_client()
    assert client.post("/ask", json=ASK).status_code == 200
    chat = {"model": "test-model", "messages": [{"role": "user", "content": "Who am I?"}]}
    assert client.post("/v1/chat/completions", json=chat).status_code == 429
    assert client.post("/page/ask", data=ASK).status_code == 429


@pytest.mark.usefixtures("store")
@on_sqlite
def test_rate_limit_unset_limits_nothing(build: Callable[..., Flask]) -> None:
    client = build().test_client()
    responses = [client.post("/ask", json=ASK) for _ in range(3)]
    assert {response.status_code for response in responses} == {200}
    assert "RateLimit" not in responses[0].headers


def test_count_of_several_rates_returns_the_tightest(store: Store) -> None:
    rates = RateLimiter("5/day, 2/minute", store)
    assert [rates.count("x").is_over for _ in range(3)] == [False, False, True]
    assert rates.count("x").item == parse("2/minute")
    assert not rates.count("y").is_over


def test_count_in_several_servers_of_one_database_adds_up(
    store: Store, build: Callable[..., Flask]
) -> None:
    servers = [build(rate_limit="7/day", workers=workers).test_client() for workers in (1, 2, 3)]
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(servers[n % 3].post, "/ask", json=ASK) for n in range(12)]
    responses = [task.result() for task in tasks]
    assert sorted(response.status_code for response in responses) == [200] * 7 + [429] * 5
    policies = {response.headers["RateLimit-Policy"] for response in responses}
    assert policies == {'"7-per-day";q=7;w=86400'}
    rests = [response.headers["RateLimit"].split(";")[1] for response in responses]
    assert sorted(rests) == ["r=0"] * 6 + ["r=1", "r=2", "r=3", "r=4", "r=5", "r=6"]
    assert store.count() == 7


def test_count_in_a_new_window_begins_at_1_and_deletes_the_ended_ones(store: Store) -> None:
    assert [count_event(store, key, 60)[0] for key in ("a", "a", "b")] == [1, 2, 1]
    with store.transaction(write=True) as connection:
        connection.exec_driver_sql("UPDATE rate_count SET ends_at = 1")
    events, seconds = count_event(store, "a", 60)
    assert (events, 59 < seconds <= 60) == (1, True)
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT events FROM rate_count").all() == [(1,)]


def test_count_without_a_database_counts_in_the_process(home: Path) -> None:
    (home / "file").touch()
    with closing(Store(f"sqlite:///{home}/file/history.db")) as store:
        rates = RateLimiter("1/day", store)
        assert [rates.count("x").is_over for _ in range(2)] == [False, True]
        assert rates.count("x").headers()["RateLimit"].startswith('"1-per-day";r=0;t=86')


@pytest.mark.usefixtures("store")
@on_sqlite
def test_rate_limit_counts_all_changes_that_are_passed_on(
    build: Callable[..., Flask], provider: FakeProvider
) -> None:
    client = build(rate_limit="3/day", passthrough=True).test_client()
    for method in ("PUT", "PATCH", "DELETE"):
        assert client.open("/v1/files/1", method=method).status_code == 404
        assert client.get("/v1/files/1").status_code == 404
    assert client.delete("/v1/files/1").status_code == 429
    assert len(provider.requests) == 6
