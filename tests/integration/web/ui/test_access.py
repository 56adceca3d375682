"""Access to the page: sign-in, refused requests, and unknown paths."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from integration.web.ui.test_views import BROWSER, keep, on_sqlite, text_of
from qacli.web.ui import sign_in

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]


@on_sqlite
@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/page/9", 404, "There is no record 9."),
        ("GET", "/page/nowhere", 404, "There is nothing at /page/nowhere."),
        ("POST", "/page/9", 405, "does not take POST"),
        ("GET", "/page/ask", 405, "does not take GET"),
        ("POST", "/page/9/delete", 404, "There is no record 9."),
        ("POST", "/page/9/tags", 404, "There is no record 9."),
        ("GET", "/page/99999999999999999999", 404, "There is no record"),
    ],
)
def test_error_is_a_page_for_browsers_and_a_problem_for_programs(
    client: FlaskClient, problem: Problem, method: str, path: str, status: int, said: str
) -> None:
    page = client.open(path, method=method, headers=BROWSER)
    assert (page.status_code, page.mimetype) == (status, "text/html")
    assert said in text_of(page)
    assert "GET /" not in text_of(page)
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    for accept in ("*/*", "application/json", "text/event-stream"):
        problem(
            client.open(path, method=method, headers={"Accept": accept}),
            status,
            {404: "not-found", 405: "method-not-allowed"}[status],
        )


@on_sqlite
def test_api_error_in_a_browser_is_a_problem(client: FlaskClient, problem: Problem) -> None:
    problem(client.get("/qa/9", headers=BROWSER), 404, "not-found")
    problem(client.get("/nowhere", headers=BROWSER), 404, "not-found")


@on_sqlite
def test_error_of_the_database_is_a_page(build: Callable[..., Flask]) -> None:
    client = build(database_url="postgresql://u:p@127.0.0.1:1/none").test_client()
    response = client.get("/", headers=BROWSER)
    assert (response.status_code, response.mimetype) == (503, "text/html")
    assert "database" in text_of(response)


@on_sqlite
@pytest.mark.parametrize("path", ["/page/ask", "/page/1/delete", "/page/1/tags"])
@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}]
)
def test_form_from_another_site_is_refused(
    client: FlaskClient,
    store: Store,
    provider: FakeProvider,
    path: str,
    headers: dict[str, str],
) -> None:
    keep(store, "Who?", tags=["a"])
    form = {"question": "x", "add": "x", "remove": "a"}
    response = client.post(path, data=form, headers=BROWSER | headers)
    assert (response.status_code, response.mimetype) == (403, "text/html")
    assert store.get(1).tags == ["a"]
    assert provider.requests == []


@on_sqlite
def test_sign_in_with_the_token_opens_the_page(store: Store, build: Callable[..., Flask]) -> None:
    keep(store, "A secret question")
    client = build(token="s3cret-token").test_client()
    refused = client.get("/page/1?q=x", headers=BROWSER)
    assert refused.status_code == 303
    assert refused.location == "/sign-in?next=/page/1%3Fq%3Dx"
    with client.get("/static/page.css") as static:
        assert static.status_code == 200
    expired = client.post("/page/1/delete", headers=BROWSER)
    assert (expired.status_code, expired.mimetype) == (401, "text/html")
    assert 'href="/sign-in"' in expired.text

    form = client.get(refused.location, headers=BROWSER)
    assert form.status_code == 200
    assert 'name="next" value="/page/1?q=x"' in form.text
    for token in ("", "wrong", "s3cret-toke", "ß"):
        wrong = client.post("/sign-in", data={"token": token, "next": "/"}, headers=BROWSER)
        assert wrong.status_code == 403
        assert "Set-Cookie" not in wrong.headers
        assert "s3cret" not in wrong.text

    right = client.post("/sign-in", data={"token": "s3cret-token", "next": "/page/1?q=x"})
    assert (right.status_code, right.location) == (303, "/page/1?q=x")
    cookie = right.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert "Secure" not in cookie
    page = client.get("/page/1", headers=BROWSER)
    assert "A secret question" in page.text
    assert "Sign out" in page.text
    # A browser sends the cookie with every request, so the origin of the request is checked.
    cross = client.post("/page/1/delete", headers=BROWSER | {"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == 403

    assert client.post("/sign-out").location == "/sign-in"
    assert client.get("/", headers=BROWSER).status_code == 303


@on_sqlite
def test_record_of_a_signed_in_caller_has_its_name(
    store: Store, build: Callable[..., Flask]
) -> None:
    client = build(tokens="ada=s3cret-1,bob=s3cret-2").test_client()
    client.post("/sign-in", data={"token": "s3cret-2"})
    assert client.post("/page/ask", data={"question": "Who?"}).location == "/page/1#r1"
    assert store.get(1).caller == "bob"
    assert "by bob" in text_of(client.get("/page/1"))


@on_sqlite
def test_sign_in_without_tokens_redirects_to_the_page(client: FlaskClient) -> None:
    assert client.get("/sign-in").location == "/"
    assert client.post("/sign-in", data={"token": ""}).status_code == 403


@pytest.mark.usefixtures("store")
@on_sqlite
def test_sign_in_over_https_sets_a_secure_cookie(build: Callable[..., Flask]) -> None:
    client = build(token="s3cret-token").test_client()
    response = client.post("/sign-in", data={"token": "s3cret-token"}, base_url="https://localhost")
    assert "Secure" in response.headers["Set-Cookie"]


@pytest.mark.usefixtures("store")
@on_sqlite
@pytest.mark.parametrize(
    "elsewhere",
    [
        *("https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "evil"),
        *("javascript:alert(1)", "/\t/evil.example", "///evil.example", "/\n/evil.example", ""),
    ],
)
def test_sign_in_redirects_only_to_this_server(build: Callable[..., Flask], elsewhere: str) -> None:
    client = build(token="s3cret-token").test_client()
    response = client.post("/sign-in", data={"token": "s3cret-token", "next": elsewhere})
    assert response.location == "/"


@pytest.mark.usefixtures("store")
@on_sqlite
def test_sign_in_with_all_form_slots_taken_delays_no_other_request(
    build: Callable[..., Flask],
) -> None:
    client = build(token="s3cret-token").test_client()
    bearer = {"Authorization": "Bearer s3cret-token"}
    with ExitStack() as forms_that_never_end:
        for _ in range(sign_in.MAX_FORMS):
            forms_that_never_end.enter_context(sign_in.form_slots)
        full = client.post("/sign-in", data={"token": "s3cret-token"}, headers=BROWSER)
        assert (full.status_code, full.mimetype) == (503, "text/html")
        assert client.get("/qas", headers=bearer).status_code == 200
    assert client.post("/sign-in", data={"token": "s3cret-token"}).status_code == 303
    assert client.post("/sign-in", data={"token": "x" * 20_000}).status_code == 413
