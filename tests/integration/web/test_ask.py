from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

from qacli.recording.outbox import Outbox
from qacli.web.app import MAX_BODY

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.config.settings import Settings
    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_post_ask_returns_the_record(client: FlaskClient, store: Store) -> None:
    response = client.post("/ask", json={"question": "Grüße, 世界 🌍\r\n"})
    assert (response.status_code, response.content_type) == (200, "application/json")
    record = response.get_json()
    assert list(record)[:4] == ["id", "question", "answer", "created_at"]
    assert record["question"] == "Grüße, 世界 🌍\r\n"
    assert record["answer"] == "Answer to: Grüße, 世界 🌍\r\n"
    assert record["status"] == "answered"
    assert datetime.fromisoformat(record["created_at"]).utcoffset() is not None
    assert client.get(f"/qa/{record['id']}").get_json() == record
    assert store.get(record["id"]).to_dict() == record
    assert "世界".encode() in response.data


def test_post_ask_options_are_sent_and_recorded(
    client: FlaskClient, provider: FakeProvider
) -> None:
    body = {"question": "Who?", "model": "m-9", "system": "Be brief.", "temperature": 0.5}
    record = client.post("/ask", json={**body, "max_tokens": 7, "tags": ["a", "ß"]}).get_json()
    [request] = provider.requests
    assert request.body["model"] == "m-9"
    assert (request.body["temperature"], request.body["max_tokens"]) == (0.5, 7)
    assert [message["content"] for message in request.body["messages"]] == ["Be brief.", "Who?"]
    assert record["params"] == {"model": "m-9", "temperature": 0.5, "max_tokens": 7}
    assert (record["system"], record["tags"]) == ("Be brief.", ["a", "ß"])


@on_sqlite
@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "bad-request"),
        (b'{"question": ', 400, "bad-request"),
        (b"\xff", 400, "bad-request"),
        (b'{"question": "x", "temperature": NaN}', 422, "invalid-request"),
        (b"[]", 422, "invalid-request"),
        (b"null", 422, "invalid-request"),
        (b"{}", 422, "invalid-request"),
        (b'{"question": null}', 422, "invalid-request"),
        (b'{"question": 5}', 422, "invalid-request"),
        (b'{"question": ""}', 422, "invalid-request"),
        (b'{"question": " \\n"}', 422, "invalid-request"),
        (b'{"question": "a\\u0000b"}', 422, "invalid-request"),
        (b'{"question": "x", "system": "\\u0000"}', 422, "invalid-request"),
        (b'{"question": "x", "tags": ["\\u0000"]}', 422, "invalid-request"),
        (b'{"question": "x", "model": "\\u0000"}', 422, "invalid-request"),
        (b'{"question": "x", "model": ""}', 422, "invalid-request"),
        (b'{"question": "x", "model": 7}', 422, "invalid-request"),
        (b'{"question": "x", "temperature": 2.1}', 422, "invalid-request"),
        (b'{"question": "x", "temperature": 1e999}', 422, "invalid-request"),
        (b'{"question": "x", "max_tokens": 0}', 422, "invalid-request"),
        (b'{"question": "x", "max_tokens": 1.5}', 422, "invalid-request"),
        (b'{"question": "x", "seed": 1.5}', 422, "invalid-request"),
        (b'{"question": "x", "max_tokens": 99999999999999999999}', 422, "invalid-request"),
        (b'{"question": "x", "tags": "a"}', 422, "invalid-request"),
        (b'{"question": "x", "tags": [""]}', 422, "invalid-request"),
        (b'{"question": "x", "tags": ["a", " "]}', 422, "invalid-request"),
        (b'{"question": "x", "tags": [" a"]}', 422, "invalid-request"),
        (b'{"question": "x", "colour": "red"}', 422, "invalid-request"),
        (b'{"question": "x", "model": "local"}', 422, "invalid-request"),
        (b'{"question": "x", "model": "local:/etc/passwd"}', 422, "invalid-request"),
    ],
)
def test_post_ask_invalid_body_is_a_problem_and_sends_nothing(
    client: FlaskClient,
    provider: FakeProvider,
    store: Store,
    problem: Problem,
    body: bytes,
    status: int,
    kind: str,
) -> None:
    response = client.post("/ask", data=body, content_type="application/json")
    problem(response, status, kind)
    assert provider.requests == []
    assert store.page(limit=1) == []


@on_sqlite
def test_post_ask_lone_surrogate_is_refused(client: FlaskClient, provider: FakeProvider) -> None:
    data = b'{"question": "a\\ud800b"}'
    response = client.post("/ask", data=data, content_type="application/json")
    assert response.status_code in {400, 422}
    assert response.content_type == "application/problem+json"
    assert provider.requests == []


@on_sqlite
def test_post_ask_invalid_fields_are_all_named(client: FlaskClient, problem: Problem) -> None:
    response = client.post("/ask", json={"question": "x", "temperature": 9, "colour": "red"})
    members = problem(response, 422, "invalid-request")
    assert {error["field"] for error in members["errors"]} == {"temperature", "colour"}
    assert "temperature" in members["detail"]


@on_sqlite
def test_post_ask_compressed_body_is_415(client: FlaskClient) -> None:
    body = gzip.compress(b'{"question": "Who?"}')
    headers = {"Content-Encoding": "gzip"}
    for path in ("/ask", "/v1/chat/completions"):
        response = client.post(path, data=body, content_type="application/json", headers=headers)
        assert response.status_code == 415
        assert "Content-Encoding" in response.text
        assert response.headers["Accept-Encoding"] == "identity"
    headers = {"Content-Encoding": "identity"}
    assert client.post("/ask", json={"question": "Who?"}, headers=headers).status_code == 200


@on_sqlite
def test_post_ask_byte_order_mark_is_left_out(client: FlaskClient) -> None:
    body = '\ufeff{"question": "Who?"}'.encode()
    response = client.post("/ask", data=body, content_type="application/json; charset=utf-8")
    assert response.get_json()["question"] == "Who?"


@on_sqlite
def test_path_with_a_slash_at_the_end_is_the_same(client: FlaskClient) -> None:
    record = client.post("/ask/", json={"question": "Who?"}).get_json()
    assert client.get(f"/qa/{record['id']}/").get_json() == record
    assert client.get("/qas/").get_json() == client.get("/qas").get_json() == [record]
    assert client.get("/is_up/").get_json() == {"status": 200, "message": "yes"}


@on_sqlite
def test_root_of_v1_is_an_error_in_openais_form(client: FlaskClient) -> None:
    for path in ("/v1", "/v1/"):
        response = client.get(path)
        assert (response.status_code, response.get_json()["error"]["code"]) == (404, "not_found")


@on_sqlite
def test_post_ask_other_content_type_is_415(
    client: FlaskClient, provider: FakeProvider, problem: Problem
) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", None):
        response = client.post("/ask", data=b'{"question": "x"}', content_type=content_type)
        problem(response, 415, "unsupported-media-type")
    assert provider.requests == []


@on_sqlite
def test_post_ask_body_beyond_the_limit_is_refused(
    client: FlaskClient, provider: FakeProvider, problem: Problem
) -> None:
    frame = b'{"question": "%b"}'
    size = MAX_BODY - len(frame % b"")
    provider.script(Reply(text="Long."))
    within, beyond = frame % (b"x" * size), frame % (b"x" * (size + 1))
    assert client.post("/ask", data=within, content_type="application/json").status_code == 200
    response = client.post("/ask", data=beyond, content_type="application/json")
    problem(response, 413, "request-entity-too-large")
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("fault", "status", "kind", "answer"),
    [
        ("status=401", 502, "key-rejected", None),
        ("status=400", 502, "provider-refused", None),
        ("status=500", 503, "provider-unavailable", None),
        ("reset", 502, "provider-unreachable", None),
        ("empty", 502, "broken-answer", None),
        ("cut=2", 502, "provider-unreachable", "Answer to:"),
    ],
)
def test_post_ask_failure_is_a_problem_with_the_record_id(
    client: FlaskClient,
    store: Store,
    problem: Problem,
    fault: str,
    status: int,
    kind: str,
    answer: str | None,
) -> None:
    members = problem(client.post("/ask", json={"question": f"Who? [[{fault}]]"}), status, kind)
    record = store.get(members["record_id"])
    assert (record.status, record.answer) == ("failed", answer)
    assert record.error_kind == kind
    if fault.startswith("status="):
        assert members["provider_status"] == int(fault.removeprefix("status="))


@on_sqlite
def test_post_ask_slow_provider_is_504(
    store: Store, build: Callable[..., Flask], problem: Problem
) -> None:
    client = build(timeout=0.3).test_client()
    members = problem(
        client.post("/ask", json={"question": "Who? [[hang]]"}), 504, "provider-timeout"
    )
    assert store.get(members["record_id"]).status == "failed"


@on_sqlite
def test_post_ask_retry_after_of_the_provider_is_passed_on(
    client: FlaskClient, problem: Problem
) -> None:
    question = "Who? [[status=429 retry_after=7]]"
    response = client.post("/ask", json={"question": question})
    problem(response, 503, "provider-unavailable")
    assert response.headers["Retry-After"] == "7"


@on_sqlite
def test_post_ask_key_repeated_by_the_provider_is_masked(
    client: FlaskClient, store: Store, settings: Settings, problem: Problem
) -> None:
    response = client.post("/ask", json={"question": "Who? [[leak_key]]"})
    problem(response, 502, "key-rejected")
    assert settings.api_key is not None
    assert settings.api_key not in response.text
    assert settings.api_key not in str(store.newest().to_dict())


@pytest.mark.usefixtures("store")
@on_sqlite
def test_get_qas_without_a_provider_works(build: Callable[..., Flask], problem: Problem) -> None:
    client = build(api_key=None, base_url=None, model="gpt-x").test_client()
    problem(client.post("/ask", json={"question": "x"}), 503, "not-configured")
    assert client.get("/qas").get_json() == []


def test_post_ask_over_the_thread_limit_is_busy_and_reads_work(
    store: Store,
    build: Callable[..., Flask],
    provider: FakeProvider,
    problem: Problem,
    wait_for: Callable[..., Any],
) -> None:
    app = build(threads=1)
    answers: list[int] = []

    def ask() -> None:
        question = "Who? [[latency=1.5]]"
        answers.append(app.test_client().post("/ask", json={"question": question}).status_code)

    first = threading.Thread(target=ask)
    first.start()
    wait_for(lambda: provider.requests)
    client = app.test_client()
    response = client.post("/ask", json={"question": "Me too?"})
    problem(response, 503, "busy")
    assert int(response.headers["Retry-After"]) >= 1
    assert client.get("/is_up").status_code == 200
    assert [record["status"] for record in client.get("/qas").get_json()] == ["asking"]
    first.join()
    assert answers == [200]
    assert provider.asked("Me too?") == 0
    assert client.post("/ask", json={"question": "Now?"}).status_code == 200
    assert len(store.page(limit=9)) == 2


def test_post_ask_with_the_database_down_sends_nothing(
    build: Callable[..., Flask],
    settings: Settings,
    provider: FakeProvider,
    problem: Problem,
    wait_for: Callable[..., Any],
) -> None:
    # The database is not migrated, because the test does not use `store`.
    client = build().test_client()
    response = client.post("/ask", json={"question": "x"})
    assert response.status_code == 503
    assert response.content_type == "application/problem+json"
    assert provider.requests == []
    # The journal has no entry that a later delivery would store as a record.
    wait_for(lambda: not Outbox(settings.outbox_path).pending())
    problem(client.get("/qas"), 503, response.get_json(force=True)["kind"])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ["seed", "max_tokens"])
def test_ask_whole_number_written_as_a_float_is_sent_as_an_integer(
    client: FlaskClient, provider: FakeProvider, name: str
) -> None:
    response = client.post(
        "/ask", data=f'{{"question": "x", "{name}": 7.0}}', content_type="application/json"
    )
    assert response.status_code == 200, response.text
    sent = provider.requests[-1].body[name]
    assert (sent, type(sent)) == (7, int)
