"""Sessions of browsers: the content of the cookie, and its end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from qacli.db.extra_models import SESSIONS, BrowserSession
from qacli.db.sessions import add_session
from qacli.domain import now
from qacli.web.sessions import COOKIE, LIFETIME, Sessions

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

ALICE, BOB = "alice-token-0123456789", "bob-token-0123456789"
TOKENS = f"alice={ALICE},bob={BOB}"
Build = Callable[..., "Flask"]


def sign_in(client: FlaskClient, token: str = ALICE) -> str:
    """Sign in, and return the value of the cookie."""
    assert client.post("/sign-in", data={"token": token}).status_code == 303
    cookie = client.get_cookie(COOKIE)
    assert cookie is not None
    return cookie.value


def status_with(app: Flask, cookie: str) -> int:
    """Return the status of a request with a copy of the cookie."""
    client = app.test_client()
    client.set_cookie(COOKIE, cookie)
    return client.get("/qas").status_code


def test_cookie_of_a_session_is_not_the_token(store: Store, build: Build) -> None:
    app = build(tokens=TOKENS)
    first, second = sign_in(app.test_client()), sign_in(app.test_client())
    assert first != second
    assert ALICE not in first
    with store.transaction() as connection:
        rows = connection.execute(sa.select(SESSIONS)).all()
    assert [row.caller for row in rows] == ["alice", "alice"]
    for text in (ALICE, *(cookie.partition(":")[2] for cookie in (first, second))):
        assert text not in str(rows)


@pytest.mark.usefixtures("store")
def test_cookie_is_for_this_site_and_no_script(build: Build) -> None:
    client = build(tokens=TOKENS).test_client()
    over_http = client.post("/sign-in", data={"token": ALICE}).headers["Set-Cookie"]
    over_https = client.post("/sign-in", data={"token": ALICE}, base_url="https://localhost")
    assert "Secure" not in over_http
    for cookie in (over_http, over_https.headers["Set-Cookie"]):
        for attribute in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=2592000"):
            assert attribute in cookie
    assert "Secure" in over_https.headers["Set-Cookie"]


@pytest.mark.usefixtures("store")
def test_copied_cookie_after_sign_out_is_refused_by_all_workers(build: Build) -> None:
    workers = [build(tokens=TOKENS), build(tokens=TOKENS)]
    client = workers[0].test_client()
    copied = sign_in(client)
    other = sign_in(workers[1].test_client())
    assert [status_with(app, copied) for app in workers] == [200, 200]
    assert client.post("/sign-out").status_code == 303
    assert client.get_cookie(COOKIE) is None
    assert [status_with(app, copied) for app in workers] == [401, 401]
    # A server that starts later knows it, too; other sessions stay valid.
    assert status_with(build(tokens=TOKENS), copied) == 401
    assert status_with(build(tokens=TOKENS), other) == 200


@pytest.mark.usefixtures("store")
def test_signing_in_again_ends_the_browsers_earlier_session(build: Build) -> None:
    app = build(tokens=TOKENS)
    client = app.test_client()
    earlier = sign_in(client)
    later = sign_in(client, BOB)
    assert (status_with(app, earlier), status_with(app, later)) == (401, 200)


@pytest.mark.usefixtures("store")
def test_session_with_another_token_of_its_caller_has_ended(build: Build) -> None:
    cookie = sign_in(build(tokens=TOKENS).test_client())
    assert (
        status_with(build(tokens=TOKENS.replace(ALICE, "another-token-0123456789")), cookie) == 401
    )
    assert status_with(build(tokens=f"bob={BOB}"), cookie) == 401
    assert status_with(build(tokens=TOKENS), cookie) == 200


@pytest.mark.usefixtures("store")
def test_session_of_one_caller_under_the_name_of_another_is_refused(build: Build) -> None:
    app = build(tokens=f"alice={ALICE},admin:bob={BOB}")
    _, _, session_id = sign_in(app.test_client()).partition(":")
    for cookie in (
        f"bob:{session_id}",
        session_id,
        f"alice:{session_id}x",
        "alice:",
        ":",
        "",
        "ß:ß",
    ):
        assert status_with(app, cookie) == 401, cookie


def test_session_that_has_expired_is_refused_and_removed(store: Store, build: Build) -> None:
    app = build(tokens=TOKENS)
    cookie = sign_in(app.test_client())
    with store.transaction(write=True) as connection:
        past = now() - timedelta(seconds=1)
        connection.execute(sa.update(SESSIONS).values(expires_at=past))
    assert status_with(app, cookie) == 401
    sign_in(app.test_client())
    with store.transaction() as connection:
        [left] = connection.execute(sa.select(SESSIONS)).all()
    assert left.expires_at > now() + LIFETIME - timedelta(hours=1)


def test_session_row_in_the_database_matches_its_model(store: Store) -> None:
    add_session(store, "d" * 64, "alice", now() + LIFETIME, now())
    with store.session() as session:
        found = session.get(BrowserSession, "d" * 64)
    assert found is not None
    assert found.caller == "alice"
    sessions = Sessions({"alice": ALICE}, store)
    cookie = sessions.start("alice")
    assert sessions.caller(cookie) == "alice"
    sessions.end(cookie)
    sessions.end(cookie)
    assert sessions.caller(cookie) is None


@pytest.mark.usefixtures("store")
def test_cookie_of_earlier_versions_is_removed(build: Build) -> None:
    client = build(tokens=TOKENS).test_client()
    client.set_cookie("qa_token", ALICE)
    assert client.get("/qas").status_code == 401
    sign_in(client)
    assert client.get_cookie("qa_token") is None
