"""Hostile forms, queries, headers and bodies are client errors (4xx), never server errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from werkzeug.datastructures import Headers

from integration.web.ui.test_views import BROWSER, on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient

HOSTILE = {
    "digits": "1" * 5000,
    "beyond-64-bit": "9" * 19,
    "negative": "-1",
    "other-digits": "\u0661\u00b2",
    "line-end": "/page/1\r\nSet-Cookie: a=b",
    "nul": "a\0b",
    "surrogate": "\udc80",
    "control": "\x1b[2J\x7f\u2028\x85",
    "address": "//[",
    "tab-address": "/\t/example.com",
    "not-a-number": "nan",
    "exponent": "1e400",
    "deep": "[" * 5000,
    "blank": " ",
    "semicolons": ";=;q=,;",
    "percent": "%",
}
"""The values for each field, by name."""

hostile = pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)

FORMS = {
    "/page/ask": ("question", "model", "system", "tags", "follows_id"),
    "/page/{id}/tags": ("add", "remove"),
    "/page/{id}/delete": (),
    "/sign-in": ("token", "next"),
    "/sign-out": (),
}

QUERIES = {
    "/": (
        *("q", "status", "model", "tag", "since", "until", "before", "after"),
        *("question", "removed"),
    ),
    "/page/{id}": ("q", "status", "model", "tag", "since", "until", "before", "after"),
    "/sign-in": ("next",),
    "/qas": (
        *("limit", "after", "before", "q", "model", "status", "tag", "system", "follows"),
        *("batch", "min_cost", "since", "until", "order", "unknown"),
    ),
    "/qa/{id}": ("unknown",),
    "/metrics": ("unknown",),
    "/v1/models": ("unknown",),
}

HEADERS = (
    *("Accept", "Accept-Language", "Authorization", "Cookie", "Host", "Idempotency-Key"),
    *("If-Match", "If-Modified-Since", "If-None-Match", "If-Unmodified-Since", "Last-Event-ID"),
    *("Content-Encoding", "Content-Type", "Forwarded", "Origin", "Prefer", "Range", "If-Range"),
    *("Referer", "Sec-Fetch-Site", "User-Agent", "X-Forwarded-For", "X-Forwarded-Proto"),
    *("X-Request-Id", "traceparent", "tracestate", "baggage"),
    *("Access-Control-Request-Method", "Access-Control-Request-Headers"),
)

QUALIFIED = {
    "Accept": ("text/html;q=", "*/*;level="),
    "Authorization": ("Bearer ", "Basic "),
    "Cookie": ("qa_token=", "qa_token="),
    "Content-Type": ("multipart/form-data; boundary=", "application/json; charset="),
    "If-None-Match": ('"', 'W/"'),
    "Range": ("bytes=0-", "bytes=-"),
}
"""Prefixes of a header, for hostile values that are only a part of it."""


def encoded(fields: dict[str, Any]) -> str:
    """Encode a form or a query; a lone surrogate becomes bytes that are not UTF-8."""
    return urlencode(fields, doseq=True, errors="surrogatepass")


@pytest.fixture
def record_id(client: FlaskClient) -> int:
    record = client.post("/ask", json={"question": "Who?"}).get_json()
    return int(record["id"])


@pytest.fixture
def token_client(app: Flask, build: Callable[..., Flask]) -> FlaskClient:
    """Return a client of an application with a token, on the database of `app`."""
    assert app
    return build(token="secret-token").test_client()


@hostile
def test_form_field_hostile_value_is_no_server_error(
    client: FlaskClient, token_client: FlaskClient, record_id: int, value: str
) -> None:
    for path, names in FORMS.items():
        address = path.format(id=record_id)
        for name in names:
            good = {"question": "Who?", "token": "secret-token"}
            sender = token_client if path.startswith("/sign") else client
            for fields in ({**good, name: value}, {name: ["a", value]}):
                for accept in ("text/html", "text/event-stream"):
                    response = sender.post(
                        address,
                        data=encoded(fields),
                        content_type="application/x-www-form-urlencoded",
                        headers={"Accept": accept},
                    )
                    # Read to the end: a stream that is not read would keep its thread.
                    text = response.text
                    assert response.status_code < 500, (path, name, text)


@hostile
def test_query_hostile_value_is_no_server_error(
    client: FlaskClient, record_id: int, value: str
) -> None:
    for path, names in QUERIES.items():
        for name in names:
            for accept in ("text/html", "application/x-ndjson"):
                address = path.format(id=record_id)
                response = client.get(
                    address, query_string=encoded({name: value}), headers={"Accept": accept}
                )
                text = response.text
                assert response.status_code < 500, (path, name, text)


@on_sqlite
@hostile
def test_path_hostile_value_is_no_server_error(client: FlaskClient, value: str) -> None:
    for path in ("/qa/{}", "/qa/{}/thread", "/page/{}", "/v1/models/{}", "/static/{}"):
        response = client.get(path.format(quote(value, errors="surrogatepass")))
        assert response.status_code < 500, (path, response.text)
        assert client.delete(path.format(quote(value, errors="surrogatepass"))).status_code < 500


@on_sqlite  # no value reaches the database
@hostile
def test_header_hostile_value_is_no_server_error(
    client: FlaskClient, token_client: FlaskClient, record_id: int, value: str
) -> None:
    # Only bytes that an HTTP server passes on to the application.
    sent = value.encode("utf-8", "replace").decode("latin-1").replace("\r\n", " ").replace("\0", "")
    for name in HEADERS:
        for start in ("", *QUALIFIED.get(name, ())):
            headers = Headers({**BROWSER, name: start + sent})
            for sender, method, path in (
                (token_client, "GET", "/"),
                (client, "GET", f"/qa/{record_id}"),
                (client, "GET", "/static/page.css"),
                (client, "POST", "/ask"),
            ):
                with sender.open(path, method=method, headers=headers) as response:
                    assert response.status_code < 500, (name, path, response.text)


@on_sqlite
@pytest.mark.parametrize("number", ["1" * 5000, "1e400", "-" + "1" * 5000, "1" * 400 + ".5"])
@pytest.mark.parametrize("depth", [0, 50, 5000, 100_000])
def test_json_body_huge_number_or_depth_is_a_client_error(
    client: FlaskClient, record_id: int, number: str, depth: int
) -> None:
    value = "[" * depth + number + "]" * depth
    nested = '{"a":' * depth + number + "}" * depth
    question = json.dumps("Who?")
    for path, body in (
        ("/ask", f'{{"question": {question}, "temperature": {value}}}'),
        ("/ask", f'{{"question": {question}, "max_tokens": {value}}}'),
        ("/ask", f'{{"question": {question}, "schema": {{"const": {value}}}}}'),
        ("/ask", f'{{"question": {question}, "schema": {{"const": {nested}}}}}'),
        ("/ask", f'{{"question": {question}, "follows_id": {value}}}'),
        ("/ask", f'{{"question": {question}, "tags": {value}}}'),
        ("/ask", value),
        ("/v1/chat/completions", value),
        ("/v1/chat/completions", f'{{"messages": {value}}}'),
    ):
        response = client.post(path, data=body, content_type="application/json")
        assert 400 <= response.status_code < 500, (path, body[:60], response.text)
    for name in ("add_tags", "remove_tags"):
        response = client.patch(
            f"/qa/{record_id}", data=f'{{"{name}": {value}}}', content_type="application/json"
        )
        assert 400 <= response.status_code < 500, response.text
