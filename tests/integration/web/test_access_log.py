from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY

from qacli.web.access_log import JsonFormatter, TextFormatter

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient


Problem = Callable[..., dict[str, Any]]
Lines = Callable[[], list[dict[str, Any]]]
ASK = {"question": "Who on earth am I?"}

# One database: nothing here depends on its kind.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return a function that reads the lines logged since its last call, as JSON."""
    caplog.set_level(logging.INFO)
    formatter = JsonFormatter(lambda text: text.replace(KEY, "***"))

    def read() -> list[dict[str, Any]]:
        records = [record for record in caplog.records if record.name == "qa.web"]
        caplog.clear()
        return [json.loads(formatter.format(record)) for record in records]

    return read


def test_access_log_request_is_one_line(client: FlaskClient, lines: Lines) -> None:
    response = client.get("/qas?q=nothing", headers={"X-Request-Id": "me-1"})
    [line] = lines()
    assert datetime.fromisoformat(line.pop("time")).tzinfo == UTC
    assert line.pop("ms") >= 0
    assert line == {
        "level": "info",
        "request_id": "me-1",
        "method": "GET",
        "path": "/qas",
        "status": 200,
        "remote": "127.0.0.1",
    }
    assert response.headers["X-Request-Id"] == "me-1"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("a" * 128, True),
        ("0af7651916cd43dd-8448:eb211/c80319c=.+@_", True),
        ("", False),
        ("a" * 129, False),
        ("two words", False),
        ('"quoted"', False),
        ("ümlaut", False),
        ("{}", False),
    ],
)
def test_request_id_of_the_client_is_used_if_valid(
    client: FlaskClient, lines: Lines, given: str, *, taken: bool
) -> None:
    sent = client.get("/is_up", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert (sent == given) is taken
    assert taken or re.fullmatch("[0-9a-f]{32}", sent)
    assert [line["request_id"] for line in lines()] == [sent]


def test_request_id_is_unique(client: FlaskClient) -> None:
    ids = {client.get("/is_up").headers["X-Request-Id"] for _ in range(20)}
    assert len(ids) == 20


def test_request_id_is_in_the_record_and_the_problem(
    client: FlaskClient, lines: Lines, problem: Problem
) -> None:
    headers = {"X-Request-Id": "me-2"}
    record = client.post("/ask", json=ASK, headers=headers).get_json()
    assert record["request_id"] == "me-2"
    failed = client.post("/ask", json={"question": "No [[status=401]]"}, headers=headers)
    members = problem(failed, 502, "key-rejected")
    assert members["request_id"] == "me-2"
    kept = client.get(f"/qa/{members['record_id']}").get_json()
    assert (kept["request_id"], kept["status"]) == ("me-2", "failed")
    asked, refused, read = lines()
    assert asked["record_id"] == record["id"]
    assert (refused["record_id"], refused["error"]) == (members["record_id"], "key-rejected")
    assert refused["level"] == "warning"
    assert read["record_id"] == members["record_id"]
    assert "error" not in read


def test_access_log_stream_is_logged_at_its_end_with_its_error(
    client: FlaskClient, lines: Lines
) -> None:
    response = client.post(
        "/ask",
        json={"question": "Stream [[cut=2]]", "stream": True},
        headers={"X-Request-Id": "me-3"},
        buffered=False,
    )
    assert lines() == []
    assert '"request_id": "me-3"' in response.text
    response.close()
    [line] = lines()
    assert (line["status"], line["error"]) == (200, "provider-unreachable")
    assert line["record_id"] >= 1


def test_access_log_openai_stream_is_logged_with_its_error(
    client: FlaskClient, lines: Lines
) -> None:
    said = {"role": "user", "content": "Stream [[cut=2]]"}
    body = {"messages": [said], "stream": True}
    client.post("/v1/chat/completions", json=body, buffered=True)
    [line] = lines()
    assert (line["status"], line["error"]) == (200, "provider-unreachable")


def test_access_log_bug_has_the_request_id(app: Flask, lines: Lines, problem: Problem) -> None:
    @app.get("/a-bug")
    def bug() -> str:
        raise RuntimeError(f"the key is {KEY}")

    members = problem(app.test_client().get("/a-bug"), 500, "unexpected")
    traceback, line = lines()
    assert traceback["level"] == "error"
    assert traceback["request_id"] == line["request_id"] == members["request_id"]
    assert "RuntimeError: the key is ***" in traceback["message"]
    assert (line["status"], line["error"]) == (500, "unexpected")


@pytest.mark.usefixtures("store")
def test_access_log_has_no_question_and_no_secret(
    build: Callable[..., Flask], lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "qa")
    client = build(tokens="alice=the-token,bob=other").test_client()
    for headers in ({"Authorization": "Bearer the-token"}, {"Authorization": "Bearer the-tokem"}):
        client.post("/ask", json=ASK, headers=headers)
        client.post("/ask", json={"question": "Who on earth? [[status=401]]"}, headers=headers)
        client.post("/ask?token=the-token", data=b"{on earth", headers=headers)
        client.get("/qas?q=on+earth", headers=headers)
    client.post("/sign-in", data={"token": "the-token"})
    client.get("/qas")
    written = caplog.text + json.dumps(found := lines())
    assert len(found) == 10
    assert [line.get("caller") for line in found] == ["alice"] * 4 + [None] * 5 + ["alice"]
    for secret in ("the-toke", KEY, "on earth", "on+earth", "Answer to"):
        assert secret not in written


def test_access_log_path_with_newline_stays_on_one_line(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.get("/ä%0a12:00:00 INFO  GET /forged%1b[2J")
    [record] = caplog.records
    as_json = JsonFormatter(str).format(record)
    assert "\n" not in as_json
    assert json.loads(as_json)["path"] == "/ä\n12:00:00 INFO  GET /forged\x1b[2J"
    as_text = TextFormatter(str).format(record)
    assert as_text.isprintable()
    assert r"GET /ä\n12:00:00" in as_text


def test_access_log_text_format_is_short(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.delete("/qa/7", headers={"X-Request-Id": "me-4"})
    logging.getLogger("qa.web").warning("It is %s.", "so")
    request, other = (TextFormatter(str).format(record) for record in caplog.records)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d INFO    DELETE /qa/7 404  \d+ ms  #7  not-found  127\.0\.0\.1  me-4",
        request,
    )
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING It is so\.", other)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("proxies", "remote"), [(0, "127.0.0.1"), (1, "192.0.2.2"), (2, "192.0.2.1")]
)
def test_access_log_forwarded_address_is_used_behind_proxies(
    build: Callable[..., Flask], lines: Lines, proxies: int, remote: str
) -> None:
    client = build(proxies=proxies).test_client()
    sent = {"X-Forwarded-For": "8.8.8.8, 192.0.2.1, 192.0.2.2", "X-Forwarded-Host": "localhost"}
    client.get("/qas", headers=sent)
    # A client can write X-Forwarded-Host, so it must not replace the Host that is checked.
    evil = client.get("/qas", headers={**sent, "Host": "evil.example"})
    assert evil.status_code == 403
    assert [line["remote"] for line in lines()] == [remote, remote]
