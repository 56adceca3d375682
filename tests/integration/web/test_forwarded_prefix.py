from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

# One database: nothing here depends on its kind.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

TOKEN = "0123456789abcdef"
BELOW = {"X-Forwarded-Prefix": "/qa"}
HTML = {**BELOW, "Accept": "text/html"}
ADDRESS = re.compile(r'\b(?:href|action|src|data-path)="([^"#]*)')


@pytest.fixture
def ids(store: Store) -> list[int]:
    """Store three records; return their ids."""
    answered = Outcome(status=Status.ANSWERED, answer="Answer")
    questions = [Question(question=f"Question {n}", params={"model": "m"}) for n in range(3)]
    return [store.upsert(question, answered) for question in questions]


@pytest.fixture
def client(ids: list[int], build: Callable[..., Flask]) -> FlaskClient:
    """A client of a server behind one proxy."""
    assert ids
    return build(proxies=1).test_client()


def addresses(page: str) -> set[str]:
    return {address for address in ADDRESS.findall(page) if address}


@pytest.mark.parametrize(
    "path", ["/", "/?q=Question&limit=1", "/page/1", "/docs", "/page/99", "/?edit=1"]
)
def test_page_below_a_prefix_has_only_addresses_below_it(client: FlaskClient, path: str) -> None:
    page = client.get(path, headers=HTML).text
    assert len(addresses(page)) >= 3
    assert {address for address in addresses(page) if not address.startswith("/qa/")} <= {"https:"}
    plain = client.get(path, headers={"Accept": "text/html"}).text
    assert addresses(plain) == {address.removeprefix("/qa") for address in addresses(page)}


def test_redirect_location_and_link_below_a_prefix_have_it(
    client: FlaskClient, ids: list[int]
) -> None:
    link = client.get("/qas?limit=1", headers=BELOW).headers["Link"]
    assert link == f'</qa/qas?limit=1&after={ids[0]}>; rel="next"'
    tagged = client.post(f"/page/{ids[0]}/tags", data={"tags": "a"}, headers=BELOW)
    assert tagged.headers["Location"] == f"/qa/page/{ids[0]}#r{ids[0]}"
    accepted = client.post(
        "/ask", json={"question": "Who?"}, headers={**BELOW, "Prefer": "respond-async"}
    )
    assert accepted.headers["Location"] == f"/qa/qa/{accepted.get_json()['id']}"
    events = client.post(
        "/page/ask", data={"question": "Who?"}, headers={**BELOW, "Accept": "text/event-stream"}
    ).text
    assert '"address": "/qa/page/5"' in events
    assert set(re.findall(r'(?:href|action)=\\"(/\w+/)', events)) == {"/qa/"}


def test_openapi_below_a_prefix_names_it_as_the_server(client: FlaskClient) -> None:
    document: Any = client.get("/openapi.json", headers=BELOW).get_json()
    assert document.pop("servers") == [{"url": "/qa"}]
    plain: Any = client.get("/openapi.json").get_json()
    assert plain.pop("servers") == [{"url": "/"}]
    assert plain == document


def test_sign_in_below_a_prefix_sets_the_path_of_the_cookie(
    ids: list[int], build: Callable[..., Flask]
) -> None:
    client = build(proxies=1, token=TOKEN).test_client()
    path = f"/page/{ids[0]}"
    to_form = client.get(path, headers=HTML)
    assert to_form.headers["Location"] == f"/qa/sign-in?next={path}"
    signed = client.post("/sign-in", data={"token": TOKEN, "next": path}, headers=HTML)
    assert signed.headers["Location"] == f"/qa{path}"
    assert "; Path=/qa;" in signed.headers["Set-Cookie"] + ";"
    signed_out = client.post("/sign-out", headers=HTML)
    assert signed_out.headers["Location"] == "/qa/sign-in"


@pytest.mark.parametrize(
    ("header", "root"),
    [
        ("/a/b.c-d_~1/", "/a/b.c-d_~1"),
        ("/outer, /inner", "/inner"),
        *((value, "") for value in ("", "/", "//evil.example", "qa", "/a//b", "/../b", "/a b")),
        *((value, "") for value in ('/"><script>', "/%2f", "https://evil.example", "/a;x")),
    ],
)
def test_prefix_that_is_no_path_is_ignored(client: FlaskClient, header: str, root: str) -> None:
    response = client.get("/qas?limit=1", headers={"X-Forwarded-Prefix": header})
    assert response.headers["Link"].startswith(f"<{root}/qas?")


@pytest.mark.usefixtures("ids")
def test_prefix_without_a_proxy_is_ignored(build: Callable[..., Flask]) -> None:
    link = build().test_client().get("/qas?limit=1", headers=BELOW).headers["Link"]
    assert link.startswith("</qas?")
