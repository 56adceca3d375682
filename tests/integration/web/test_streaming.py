"""An answer as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from conftest import texts_of
from fake_provider import Reply

from qacli.domain import ChatRequest, Heartbeat, create_question
from qacli.web import state
from qacli.web.answer import start_request

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]
Event = tuple[str, dict[str, Any]]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def events(response: Any) -> list[Event]:
    """Parse the events of a stream by the rules of the HTML standard."""
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/event-stream"
    return list(parsed(response.text))


def parsed(text: str) -> Iterator[Event]:
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if fields:
            yield fields["event"], json.loads(fields["data"])


def streamed(client: FlaskClient, question: str, **body: Any) -> list[Event]:
    return events(client.post("/ask", json={"question": question, "stream": True, **body}))


def test_stream_sends_the_answer_as_it_arrives(client: FlaskClient, store: Store) -> None:
    response = client.post(
        "/ask", json={"question": "Grüße\n\u2028 🌍"}, headers={"Accept": "text/event-stream"}
    )
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Accel-Buffering"] == "no"
    (first, begun), *deltas, (last, record) = events(response)
    assert (first, last) == ("record", "done")
    assert begun == {"id": record["id"], "created_at": record["created_at"]}
    assert {name for name, _ in deltas} == {"delta"}
    assert len(deltas) > 1
    assert "".join(data["text"] for _, data in deltas) == "Answer to: Grüße\n\u2028 🌍"
    assert record == store.get(record["id"]).to_dict()
    assert record["status"] == "answered"


@on_sqlite
@pytest.mark.parametrize(
    ("accept", "stream", "events_come"),
    [
        ("*/*", None, False),
        ("application/json", None, False),
        ("text/event-stream", None, True),
        ("application/json, text/event-stream;q=0.5", None, False),
        ("text/event-stream, application/json;q=0.5", None, True),
        ("application/json", True, True),
        ("text/event-stream", False, False),
    ],
)
def test_accept_event_stream_gets_events(
    client: FlaskClient, accept: str, stream: bool | None, events_come: bool
) -> None:
    body = {"question": "Who?"} | ({} if stream is None else {"stream": stream})
    response = client.post("/ask", json=body, headers={"Accept": accept})
    assert (response.mimetype == "text/event-stream") is events_come


@on_sqlite
def test_stream_refused_before_the_first_byte_is_a_problem(
    client: FlaskClient, provider: FakeProvider, problem: Problem
) -> None:
    for body in ({"question": " "}, {"question": "x", "temperature": 9}):
        problem(client.post("/ask", json={**body, "stream": True}), 422, "invalid-request")
    response = client.post("/ask", json={"question": "x", "follows_id": 9, "stream": True})
    problem(response, 404, "not-found")
    assert provider.requests == []


@on_sqlite
def test_stream_beyond_the_rate_limit_is_a_problem(
    store: Store, build: Callable[..., Flask], problem: Problem
) -> None:
    app = build(threads=1)
    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    body = {"question": "x", "stream": True}
    with running.slot():
        problem(app.test_client().post("/ask", json=body), 503, "busy")
    assert store.page(limit=1) == []
    # Each of these requests releases its slot.
    for _ in range(3):
        assert events(app.test_client().post("/ask", json=body))[-1][0] == "done"


def test_stream_failure_in_the_middle_is_an_event(client: FlaskClient, store: Store) -> None:
    *_, (_, problem) = found = streamed(client, "Who? [[cut=2]]")
    assert [each for each, _ in found] == ["record", "delta", "delta", "error"]
    assert (problem["kind"], problem["status"]) == ("provider-unreachable", 502)
    assert problem["record_id"] == found[0][1]["id"]
    record = store.get(problem["record_id"])
    assert (record.status, record.answer) == ("failed", "Answer to:")


@on_sqlite
def test_stream_that_is_not_read_is_completed(
    client: FlaskClient, store: Store, wait_for: Callable[..., Any]
) -> None:
    client.post("/ask", json={"question": "Who?", "stream": True}).close()
    wait_for(lambda: store.newest().status == "answered")
    assert store.newest().answer == "Answer to: Who?"


def disconnect(app: Flask) -> None:
    response = app.test_client().post(
        "/ask", json={"question": "a b c d [[delay=0.1]]", "stream": True}
    )
    pieces = response.iter_encoded()
    assert b"record" in next(pieces)
    assert b"delta" in next(pieces)
    response.close()


def test_stream_client_that_disconnects_keeps_the_answer(
    app: Flask, store: Store, wait_for: Callable[..., Any]
) -> None:
    disconnect(app)
    wait_for(lambda: store.newest().status == "answered")
    assert store.newest().answer == "Answer to: a b c d [[delay=0.1]]"


def test_stream_client_that_disconnects_can_interrupt(
    store: Store, build: Callable[..., Flask]
) -> None:
    disconnect(build(on_disconnect="interrupt"))
    record = store.newest()
    assert record.status == "interrupted"
    assert (record.answer or "").startswith("Answer")
    assert not (record.answer or "").endswith("]]")


@pytest.mark.usefixtures("store")
@on_sqlite
def test_stream_during_silence_sends_heartbeats(app: Flask) -> None:
    with app.app_context():
        question = create_question("Who? [[first_token_delay=0.5]]", model="m", system=None)
        request = ChatRequest(question=question)
        with closing(
            start_request(state.get_state(), question, request, heartbeat_seconds=0.1)
        ) as answer:
            pieces = list(answer)
    assert isinstance(pieces[0], Heartbeat)
    assert 1 < sum(isinstance(piece, Heartbeat) for piece in pieces) < 6
    assert "".join(texts_of(pieces)) == "Answer to: Who? [[first_token_delay=0.5]]"


@on_sqlite
def test_stream_that_ends_in_any_way_frees_its_place(
    store: Store, build: Callable[..., Flask], wait_for: Callable[..., Any]
) -> None:
    app = build(threads=1, on_disconnect="interrupt")
    disconnect(app)
    streamed(app.test_client(), "Who? [[cut=1]]")
    client = app.test_client()
    client.post("/ask", json={"question": "Who?", "stream": True}).close()
    assert streamed(client, "Who?")[-1][0] == "done"
    wait_for(lambda: {each.status for each in store.page(limit=1000)} & {"asking"} == set())


def test_stream_answer_is_validated_by_its_schema(
    client: FlaskClient, provider: FakeProvider
) -> None:
    body = {"question": """Dog? [[text='{"age": 5}']]""", "schema": "age int"}
    record = client.post("/ask", json=body).get_json()
    assert (record["status"], record["answer"]) == ("answered", '{"age": 5}')
    schema = record["params"]["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"age": {"type": "integer"}}
    assert provider.requests[0].body["response_format"]["type"] == "json_schema"
    record = client.post("/ask", json={**body, "schema": schema}).get_json()
    assert record["params"]["response_format"]["json_schema"]["schema"] == schema


def test_stream_invalid_answer_is_repaired_once(
    client: FlaskClient, provider: FakeProvider, store: Store
) -> None:
    provider.script("text='none'", "text=7")
    body = {"question": "How many?", "schema": {"type": "integer"}}
    record = client.post("/ask", json=body).get_json()
    assert (record["answer"], record["status"]) == ("7", "answered")
    first = store.get(record["follows_id"])
    assert (first.question, first.status, first.answer) == ("How many?", "failed", "none")
    contents = [each["content"] for each in provider.requests[1].body["messages"]]
    assert contents[:2] == ["How many?", "none"]


@on_sqlite
def test_stream_with_a_schema_sends_no_invalid_text(
    client: FlaskClient, provider: FakeProvider
) -> None:
    provider.script("text='none at all'", "text=7")
    found = streamed(client, "How many?", schema={"type": "integer"})
    assert [name for name, _ in found] == ["record", "record", "delta", "done"]
    assert found[2][1] == {"text": "7"}
    assert found[1][1]["id"] == found[3][1]["id"]
    provider.script("text='none at all'", "text='nothing'")
    found = streamed(client, "How many?", schema={"type": "integer"})
    assert [name for name, _ in found] == ["record", "record", "error"]
    assert found[2][1]["kind"] == "unfit-answer"
    assert found[2][1]["record_id"] == found[1][1]["id"]


@on_sqlite
@pytest.mark.parametrize(
    "schema",
    [
        *("", "age whole", "/etc/passwd", "name, name", '{"type": "integer"}'),
        *({"type": "nothing"}, {"$ref": "http://elsewhere/schema"}, 5, []),
    ],
)
def test_stream_with_an_invalid_schema_is_refused(
    client: FlaskClient, provider: FakeProvider, problem: Problem, schema: Any
) -> None:
    response = client.post("/ask", json={"question": "x", "schema": schema})
    assert "root" not in problem(response, 422, "invalid-request")["detail"]
    assert provider.requests == []


@on_sqlite
def test_answer_events_send_reasoning_as_events_of_their_own(
    client: FlaskClient, provider: FakeProvider, store: Store
) -> None:
    provider.default = Reply(reasoning="Let me\nthink.", text="Yes, so.")
    (first, _), *pieces, (last, record) = streamed(client, "Who?")
    assert (first, last) == ("record", "done")
    assert [name for name, _ in pieces] == ["reasoning"] * 3 + ["delta"] * 2
    texts = [data["text"] for _, data in pieces]
    assert ("".join(texts[:3]), "".join(texts[3:])) == ("Let me\nthink.", "Yes, so.")
    assert record["reasoning"] == "Let me\nthink."
    assert store.newest().answer == "Yes, so."


@on_sqlite
def test_answer_events_with_a_schema_send_reasoning_unchecked(
    client: FlaskClient, provider: FakeProvider
) -> None:
    provider.default = Reply(reasoning='{"name": 1} {', text='{"name": "Bo"}')
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    got = streamed(client, "Who?", schema=schema)
    assert [name for name, _ in got] == ["record", "reasoning", "delta", "done"]
    assert got[1][1] == {"text": '{"name": 1} {'}
    assert got[2][1] == {"text": '{"name": "Bo"}'}
    assert len(provider.requests) == 1


@on_sqlite
def test_answer_events_of_an_earlier_request_have_its_reasoning(
    client: FlaskClient, provider: FakeProvider
) -> None:
    provider.default = Reply(reasoning="Let me think.", text="Yes.")
    headers = {"Idempotency-Key": "one", "Accept": "text/event-stream"}
    body = {"question": "Who?"}
    first, second = (events(client.post("/ask", json=body, headers=headers)) for _ in range(2))
    assert [name for name, _ in second] == ["record", "reasoning", "delta", "done"]
    assert second[1][1] == {"text": "Let me think."}
    assert second[-1] == first[-1]
    assert len(provider.requests) == 1
