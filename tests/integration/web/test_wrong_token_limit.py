"""Requests with wrong tokens are limited for each address; right tokens never are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qacli.errors import RateLimited
from qacli.web.wrong_token_limit import FAILURES, FailureLimiter, network_of

if TYPE_CHECKING:
    from flask import Flask


TOKEN = "s3cret-token-0123456789"
BROWSER = {"Accept": "text/html"}
Problem = Callable[..., dict[str, Any]]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_limiter_refuses_beyond_the_limit_until_the_window_ends() -> None:
    clock = Clock()
    limiter = FailureLimiter(limit=2, window=60, clock=clock)
    limiter.count("10.0.0.1")
    clock.seconds = 30
    limiter.count("10.0.0.1")
    with pytest.raises(RateLimited) as caught:
        limiter.count("10.0.0.1")
    assert caught.value.retry_after == 30
    limiter.count("10.0.0.2")
    clock.seconds = 60
    limiter.count("10.0.0.1")


def test_limiter_with_many_addresses_forgets_the_oldest() -> None:
    limiter = FailureLimiter(limit=1, capacity=100, clock=Clock())
    for number in range(1000):
        limiter.count(f"10.0.{number // 256}.{number % 256}")
        assert len(limiter) <= 100
    limiter.count("10.0.0.0")
    with pytest.raises(RateLimited):
        limiter.count("10.0.3.231")


def test_limiter_after_the_window_remembers_no_address() -> None:
    clock = Clock()
    limiter = FailureLimiter(clock=clock)
    for number in range(100):
        limiter.count(f"10.0.0.{number}")
    clock.seconds = 61
    limiter.count("10.0.1.1")
    assert len(limiter) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_network_of_returns_the_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_wrong_tokens_are_limited_and_right_ones_are_not(
    build: Callable[..., Flask], problem: Problem
) -> None:
    client = build(token=TOKEN).test_client()

    def get(token: str, address: str = "192.0.2.1") -> Any:
        environ = {"REMOTE_ADDR": address}
        headers = {"Authorization": f"Bearer {token}"}
        return client.get("/qas", headers=headers, environ_base=environ)

    for _ in range(FAILURES):
        problem(get("wrong"), 401, "unauthorized")
    for _ in range(3):
        refused = get("wrong")
        problem(refused, 429, "rate-limited")
        assert 1 <= int(refused.headers["Retry-After"]) <= 61
        assert get(TOKEN).status_code == 200
    problem(get("wrong", "192.0.2.2"), 401, "unauthorized")
    # A request without a token is not counted as a guess.
    problem(client.get("/qas", environ_base={"REMOTE_ADDR": "192.0.2.1"}), 401, "unauthorized")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sign_in_wrong_tokens_are_limited_right_ones_are_not(build: Callable[..., Flask]) -> None:
    client = build(token=TOKEN).test_client()
    for _ in range(FAILURES):
        assert client.post("/sign-in", data={"token": "x"}, headers=BROWSER).status_code == 403
    refused = client.post("/sign-in", data={"token": "x"}, headers=BROWSER)
    assert (refused.status_code, refused.mimetype) == (429, "text/html")
    assert int(refused.headers["Retry-After"]) >= 1
    assert client.get("/sign-in", headers=BROWSER).status_code == 200
    assert client.post("/sign-in", data={"token": TOKEN}, headers=BROWSER).status_code == 303


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_wrong_token_limit_behind_a_proxy_counts_client_address(
    build: Callable[..., Flask],
) -> None:
    client = build(token=TOKEN, proxies=1).test_client()

    def get(forwarded: str) -> int:
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": forwarded}
        return client.get("/qas", headers=headers).status_code

    assert [get("192.0.2.1") for _ in range(FAILURES + 1)][-2:] == [401, 429]
    # The proxy has added the last address; a client can write any before it.
    assert get("192.0.2.9, 192.0.2.1") == 429
    assert get("192.0.2.1, 192.0.2.9") == 401


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_wrong_token_limit_is_shared_by_workers(build: Callable[..., Flask]) -> None:
    client = build(token=TOKEN, workers=4).test_client()
    wrong = {"Authorization": "Bearer wrong"}
    statuses = [client.get("/qas", headers=wrong).status_code for _ in range(FAILURES // 4 + 1)]
    assert statuses == [401] * (FAILURES // 4) + [429]
