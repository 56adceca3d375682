"""Questions repeated with an `Idempotency-Key`, and questions with `Prefer: respond-async`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from journals import write_question

from qacli.domain import DeferredQuestion, Outcome, Question, Status
from qacli.recording.outbox import Outbox
from qacli.recording.recovery import recover_outbox
from qacli.web import state
from qacli.web.deferred import DeferredResumer

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.config.settings import Settings
    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ASYNC = {"Prefer": "respond-async"}


def ask(client: FlaskClient, question: str, key: str | None = "k", **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/ask", json={"question": question, **body}, headers=headers)


def test_idempotency_same_key_and_body_return_the_same_record(
    client: FlaskClient, provider: FakeProvider, store: Store
) -> None:
    first = ask(client, "Who?", tags=["a"], temperature=1)
    again = ask(client, "Who?", tags=["a"], temperature=1.0)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.get_json() == first.get_json()
    assert first.get_json()["idempotency_key"] == "k"
    assert provider.asked("Who?") == 1
    assert ask(client, "Who?", "another key", tags=["a"]).get_json()["id"] != first.get_json()["id"]
    assert len(store.page(limit=9)) == 2


@on_sqlite
@pytest.mark.parametrize(
    "other",
    [
        *({"question": "Who else?"}, {"tags": ["a"]}, {"system": "Brief."}, {"model": "m-9"}),
        *({"temperature": 1}, {"max_tokens": 5}, {"schema": "name"}),
    ],
)
def test_idempotency_same_key_with_another_body_is_refused(
    client: FlaskClient, provider: FakeProvider, problem: Problem, other: dict[str, Any]
) -> None:
    first = ask(client, "Who?").get_json()
    response = ask(client, **{"question": "Who?", **other})
    assert str(first["id"]) in problem(response, 422, "invalid-request")["detail"]
    assert len(provider.requests) == 1


@on_sqlite
def test_idempotency_quoted_key_equals_the_plain_key(client: FlaskClient) -> None:
    first = ask(client, "Who?", '"a \\"b\\\\"').get_json()
    assert first["idempotency_key"] == 'a "b\\'
    assert ask(client, "Who?", '"a \\"b\\\\"').get_json() == first
    plain = ask(client, "What?", "8e03978e-40d5").get_json()
    assert ask(client, "What?", '"8e03978e-40d5"').get_json() == plain


@on_sqlite
@pytest.mark.parametrize("key", ["", '""', "x" * 256, "\u00e9", "a\x00b", "a\tb"])
def test_idempotency_invalid_key_is_refused(
    client: FlaskClient, provider: FakeProvider, problem: Problem, key: str
) -> None:
    members = problem(ask(client, "Who?", key), 422, "invalid-request")
    assert [error["field"] for error in members["errors"]] == ["Idempotency-Key"]
    assert provider.requests == []


def test_idempotency_concurrent_requests_ask_once(
    app: Flask, provider: FakeProvider, store: Store
) -> None:
    question = "Who? [[latency=0.5]]"

    def one(number: int) -> Any:
        response = ask(app.test_client(), question, stream=number % 3 == 0)
        assert response.text  # a stream is read to its end
        return response

    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(one, range(12)))
    assert {response.status_code for response in responses} == {200}
    assert provider.asked(question) == 1
    [record] = store.page(limit=9)
    for response in responses:
        if response.is_json:
            assert response.get_json() == record.to_dict()
        else:
            assert response.text.startswith("event: record\n")
            assert f'"id":{record.id},' in response.text.split("event: done\n")[1]


@on_sqlite
def test_idempotency_waiting_request_gets_the_first_failure(
    app: Flask, provider: FakeProvider, problem: Problem, wait_for: Callable[..., Any]
) -> None:
    question = "Who? [[latency=0.7 status=500]]"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, app.test_client(), question)
        wait_for(lambda: provider.requests)
        second = problem(ask(app.test_client(), question), 503, "provider-unavailable")
        assert second["record_id"] == first.result().get_json(force=True)["record_id"]
    assert provider.asked(question) == 1


def test_idempotency_key_of_a_failure_can_be_asked_again(
    client: FlaskClient, provider: FakeProvider, store: Store, problem: Problem
) -> None:
    question = "Who? [[status=500 times=1]]"
    failed = problem(ask(client, question), 503, "provider-unavailable")["record_id"]
    record = ask(client, question).get_json()
    assert (record["status"], record["idempotency_key"]) == ("answered", "k")
    assert record["id"] != failed
    # The failed record is still in the history.
    assert (store.get(failed).status, store.get(failed).idempotency_key) == ("failed", None)
    assert ask(client, question).get_json() == record
    assert provider.asked(question) == 2


@on_sqlite
def test_idempotency_repaired_answer_is_returned_again(
    client: FlaskClient, provider: FakeProvider
) -> None:
    provider.script("text='none'", "text=7")
    schema = {"type": "integer"}
    first = ask(client, "How many?", schema=schema).get_json()
    assert ask(client, "How many?", schema=schema).get_json() == first
    assert (first["answer"], len(provider.requests)) == ("7", 2)


@on_sqlite
def test_idempotency_waiting_takes_a_slot_and_frees_it(
    store: Store,
    build: Callable[..., Flask],
    provider: FakeProvider,
    problem: Problem,
    wait_for: Callable[..., Any],
) -> None:
    app = build(threads=1)
    question = "Who? [[latency=1]]"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, app.test_client(), question)
        wait_for(lambda: provider.requests)
        problem(ask(app.test_client(), question), 503, "busy")
        assert first.result().status_code == 200
    assert ask(app.test_client(), question).get_json()["id"] == store.newest().id
    assert ask(app.test_client(), "Next?", None).status_code == 200


def test_prefer_respond_async_returns_202(
    client: FlaskClient, store: Store, wait_for: Callable[..., Any]
) -> None:
    question = "Who? [[latency=0.5]]"
    response = client.post("/ask", json={"question": question}, headers=ASYNC)
    assert (response.status_code, response.content_type) == (202, "application/json")
    assert response.headers["Preference-Applied"] == "respond-async"
    record = response.get_json()
    assert (record["status"], record["answer"]) == ("asking", None)
    address = response.headers["Location"]
    assert address == f"/qa/{record['id']}"
    assert client.get(address).get_json() == record
    wait_for(lambda: client.get(address).get_json()["status"] == "answered")
    assert store.get(record["id"]).answer == f"Answer to: {question}"


@on_sqlite
@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        ("respond-async", 202),
        ("Respond-Async; x=1, wait=10", 202),
        ("wait=10, respond-async", 202),
        ("return=minimal", 200),
        ('x="respond-async"', 200),
    ],
)
def test_prefer_header_is_parsed_by_the_rfc(
    client: FlaskClient, store: Store, wait_for: Callable[..., Any], prefer: str, status: int
) -> None:
    response = client.post("/ask", json={"question": "Who?"}, headers={"Prefer": prefer})
    assert response.status_code == status
    wait_for(lambda: store.newest().status == "answered")


@on_sqlite
def test_idempotency_key_with_respond_async_asks_once(
    client: FlaskClient, provider: FakeProvider, wait_for: Callable[..., Any]
) -> None:
    body, headers = {"question": "Who? [[latency=0.5]]"}, {**ASYNC, "Idempotency-Key": "k"}
    first = client.post("/ask", json=body, headers=headers)
    again = client.post("/ask", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.headers["Location"] == again.headers["Location"]
    wait_for(lambda: client.get(first.headers["Location"]).get_json()["status"] == "answered")
    done = client.post("/ask", json=body, headers=headers)
    assert (done.status_code, done.get_json()["status"]) == (200, "answered")
    assert len(provider.requests) == 1


@on_sqlite
def test_deferred_failure_is_recorded(
    client: FlaskClient, store: Store, wait_for: Callable[..., Any]
) -> None:
    for _ in range(2):  # and its place is free again
        client.post("/ask", json={"question": "Who? [[status=500]]"}, headers=ASYNC)
        wait_for(lambda: store.newest().status == "failed")


def left_by_a_killed_server(
    settings: Settings, store: Store, *asks: Question, reserved: bool
) -> None:
    journal = Outbox(settings.outbox_path).open()
    for each in asks:
        write_question(journal, each)
        if reserved:
            store.upsert(each, Outcome())
    journal.close()


def test_deferred_questions_of_a_killed_server_are_asked_again(
    app: Flask,
    settings: Settings,
    store: Store,
    provider: FakeProvider,
    wait_for: Callable[..., Any],
) -> None:
    first = store.upsert(
        Question(question="First?"), Outcome(status=Status.ANSWERED, answer="The first.")
    )
    accepted = [
        DeferredQuestion(question="Who?", params={"model": "m"}),
        DeferredQuestion(question="And then?", params={"model": "m"}, follows_id=first),
        DeferredQuestion(question="After what?", params={"model": "m"}, follows_id=99),
    ]
    other = Question(question="And you?", params={"model": "m"})
    left_by_a_killed_server(settings, store, *accepted, other, reserved=True)
    outbox = Outbox(settings.outbox_path)
    # A command delivers finished answers, and leaves the other questions to a server.
    assert recover_outbox(outbox, store) == 1
    assert {each.status for each in store.page(limit=1000, after=first)} == {
        "asking",
        "interrupted",
    }
    again = DeferredResumer(app.extensions[state.EXTENSION_KEY])
    assert recover_outbox(outbox, store, again) == 1
    wait_for(lambda: not [each for each in store.page(limit=1000) if each.status == "asking"])
    found = {
        each.question: (each.status, each.answer) for each in store.page(limit=1000, after=first)
    }
    assert found == {
        "Who?": ("answered", "Answer to: Who?"),
        "And then?": ("answered", "Answer to: And then?"),
        "After what?": ("failed", None),
        "And you?": ("interrupted", None),
    }
    assert "There is no record 99" in (store.newest(2).error or "")
    sent = [[each["content"] for each in request.body["messages"]] for request in provider.requests]
    assert sorted(sent) == [["First?", "The first.", "And then?"], ["Who?"]]
    wait_for(lambda: not outbox.pending())


@on_sqlite
def test_deferred_question_asked_again_keeps_caller_and_repair(
    app: Flask, settings: Settings, store: Store, wait_for: Callable[..., Any]
) -> None:
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
    params = {"model": "m", "response_format": schema}
    accepted = DeferredQuestion(question="Who?", params=params, caller="bob")
    left_by_a_killed_server(settings, store, accepted, reserved=True)
    recover_outbox(
        Outbox(settings.outbox_path), store, DeferredResumer(app.extensions[state.EXTENSION_KEY])
    )
    # The answer is not JSON, so the question is asked again, in another record.
    wait_for(lambda: [each.status for each in store.page(limit=1000)] == ["failed", "failed"])
    assert [each.caller for each in store.page(limit=1000)] == ["bob", "bob"]


@on_sqlite
def test_deferred_question_answered_or_removed_is_not_asked(
    app: Flask, settings: Settings, store: Store, provider: FakeProvider
) -> None:
    done, gone = DeferredQuestion(question="Done?"), DeferredQuestion(question="Gone?")
    left_by_a_killed_server(settings, store, done, gone, reserved=True)
    store.upsert(done, Outcome(status=Status.ANSWERED, answer="Yes."))
    store.remove(store.newest().id or 0)
    outbox = Outbox(settings.outbox_path)
    assert recover_outbox(outbox, store, DeferredResumer(app.extensions[state.EXTENSION_KEY])) == 0
    assert outbox.pending() == []
    assert provider.requests == []
    assert [each.answer for each in store.page(limit=1000)] == ["Yes."]
