from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from limits import parse

from qacli.web.rate_limit import RateLimiter

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask import Flask

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]
ASK = {"question": "Who am I?"}

# Nothing here differs between the databases.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def as_bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@on_sqlite
def test_rate_limit_counts_each_token(
    store: Store, build: Callable[..., Flask], provider: FakeProvider, problem: Problem
) -> None:
    assert store
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
    # Reading costs nothing, and another token has its own.
    assert client.get("/qas", headers=as_bearer("a")).status_code == 200
    assert "RateLimit" not in client.get("/qas", headers=as_bearer("a")).headers
    assert client.post("/ask", json=ASK, headers=as_bearer("b")).status_code == 200
    # Who has no token uses up nobody's.
    problem(client.post("/ask", json=ASK), 401, "unauthorized")


@on_sqlite
def test_rate_limit_without_tokens_counts_each_address(
    store: Store, build: Callable[..., Flask]
) -> None:
    assert store
    client = build(rate_limit="1/day").test_client()

    def ask(address: str) -> int:
        return client.post("/ask", json=ASK, environ_base={"REMOTE_ADDR": address}).status_code

    assert [ask("192.0.2.1"), ask("192.0.2.1"), ask("192.0.2.2")] == [200, 429, 200]


@on_sqlite
def test_rate_limit_counts_every_asking_route(store: Store, build: Callable[..., Flask]) -> None:
    assert store
    client = build(rate_limit="1/day").test_client()
    assert client.post("/ask", json=ASK).status_code == 200
    chat = {"model": "test-model", "messages": [{"role": "user", "content": "Who am I?"}]}
    assert client.post("/v1/chat/completions", json=chat).status_code == 429
    assert client.post("/page/ask", data=ASK).status_code == 429


@on_sqlite
def test_rate_limit_unset_limits_nothing(store: Store, build: Callable[..., Flask]) -> None:
    assert store
    client = build().test_client()
    responses = [client.post("/ask", json=ASK) for _ in range(3)]
    assert {response.status_code for response in responses} == {200}
    assert "RateLimit" not in responses[0].headers


def test_count_of_several_rates_returns_the_tightest() -> None:
    rates = RateLimiter("5/day, 2/minute")
    assert [rates.count("x").is_over for _ in range(3)] == [False, False, True]
    assert rates.count("x").item == parse("2/minute")
    assert not rates.count("y").is_over


@pytest.mark.parametrize(("workers", "taken"), [(1, 7), (2, 3), (7, 1), (8, 1)])
def test_count_in_one_of_several_workers_takes_its_share(workers: int, taken: int) -> None:
    rates = RateLimiter("7/day", workers)
    counted = [rates.count("x") for _ in range(8)]
    assert [rate.is_over for rate in counted] == [False] * taken + [True] * (8 - taken)
    assert counted[0].remaining == taken - 1
    assert counted[0].headers()["RateLimit-Policy"] == '"7-per-day";q=7;w=86400'


@on_sqlite
def test_rate_limit_counts_all_changes_that_are_passed_on(
    store: Store, build: Callable[..., Flask], provider: FakeProvider
) -> None:
    assert store
    client = build(rate_limit="3/day", passthrough=True).test_client()
    for method in ("PUT", "PATCH", "DELETE"):
        assert client.open("/v1/files/1", method=method).status_code == 404
        assert client.get("/v1/files/1").status_code == 404
    assert client.delete("/v1/files/1").status_code == 429
    assert len(provider.requests) == 6
