"""The texts of errors for clients of the HTTP API: they name what to change, in terms of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qacli.web.errors import MAX_ERRORS, MAX_SHOWN_LENGTH

if TYPE_CHECKING:
    from flask.testing import FlaskClient

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

LONG = "x" * 50_000


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("GET", "/nowhere", None, 404, "There is nothing at /nowhere. The routes are at /docs."),
        ("GET", "/qa/9", None, 404, "There is no record 9. List the records: GET /qas"),
        ("PUT", "/qa/9", None, 405, "/qa/9 does not take PUT. Use DELETE or GET or PATCH."),
        ("POST", "/ask", b"{", 400, " at line 1 column 1. Send a JSON object in UTF-8."),
        ("POST", "/ask", b'{"question": "\xe9"}', 400, "Send a JSON object in UTF-8."),
        ("POST", "/ask", b'{"question": " "}', 422, "question: it is empty."),
        ("POST", "/ask", b'{"question": "x", "model": " "}', 422, "model: it is empty."),
        ("POST", "/ask", b'{"question": "x", "user": 1}', 422, "There is no field of this name."),
        (
            *("POST", "/ask", b'{"question": "x", "options": {"messages": []}}', 422),
            "options: messages cannot be set as an option. Use the fields question, system",
        ),
        (
            *("POST", "/ask", b'{"question": "x", "tags": [" a"]}', 422),
            "tags.0: Invalid tag ' a': it must start with a visible character.",
        ),
        ("POST", "/ask", b'{"question": "x", "tools": ["a b"]}', 422, "tools.0: Give a name"),
        (
            "POST",
            "/ask",
            b'{"question": "x", "tools": [{"a": 1}]}',
            422,
            "tools.0: Give a name such",
        ),
        ("POST", "/ask", b'{"question": "x", "schema": 5}', 422, " schema: Give an object, or a"),
        ("GET", "/qas?q=a%00", None, 422, "q: There is a NUL character (U+0000) in it, at"),
        ("GET", "/qas?since=2026-11-01", None, 422, "for example 2026-11-01T12:00:00Z."),
        ("GET", "/qas?status=failed&status=asking", None, 422, "The query has status 2 times."),
    ],
)
def test_problem_detail_says_what_to_change(
    client: FlaskClient, method: str, path: str, body: bytes | None, status: int, detail: str
) -> None:
    response = client.open(path, method=method, data=body, content_type="application/json")
    assert response.status_code == status
    shown = response.get_json()["detail"]
    assert detail in shown
    assert "Value error" not in shown
    assert ".." not in shown


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/{LONG}", None),
        ("GET", f"/qas?{LONG}=1", None),
        ("GET", "/qas?" + "&".join(f"a{number}=1" for number in range(2000)), None),
        ("POST", "/ask", {"question": "x", LONG: 1}),
        (LONG, "/ask", None),
    ],
    ids=["path", "parameter", "parameters", "field", "method"],
)
def test_problem_of_a_long_request_is_short(
    client: FlaskClient, method: str, path: str, body: object
) -> None:
    response = client.open(path, method=method, json=body)
    assert 400 <= response.status_code < 500
    assert len(response.data) < 2 * (MAX_ERRORS + 1) * MAX_SHOWN_LENGTH


def test_problem_of_an_idempotency_key_says_what_it_may_have(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "\u00e9"}
    problem = client.post("/ask", json={"question": "x"}, headers=headers).get_json()
    assert "Idempotency-Key: Give letters, digits and signs of ASCII." in problem["detail"]


def test_problem_of_many_fields_counts_the_others(client: FlaskClient) -> None:
    query = "&".join(f"a{number}=1" for number in range(MAX_ERRORS + 5))
    problem = client.get(f"/qas?{query}").get_json()
    assert len(problem["errors"]) == MAX_ERRORS
    assert problem["detail"].endswith("; and 5 more.")
