"""Cancel an answer that is arriving, and read its text so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from qacli.domain import DeferredQuestion, Outcome, Question, Status
from qacli.web import live_answers, state
from qacli.web.deferred import DeferredResumer

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]
SLOW = "[[text='One two three and more to come' delay=0.4]]"
BEGINNING = "One"
DEFERRED = {"Prefer": "respond-async"}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for clients that wait for an answer."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_answers, "SAVE_SECONDS", 0.02)


def wait_for_answer(
    client: FlaskClient, wait_for: Callable[..., Any], record_id: int
) -> dict[str, Any]:
    """Wait until a part of the answer is in the record, and return the record."""

    def read() -> Any:
        record: Any = client.get(f"/qa/{record_id}").get_json()
        return record if record.get("answer") else None

    record: dict[str, Any] = wait_for(read)
    return record


def test_cancel_ends_an_answer_and_keeps_its_text(
    client: FlaskClient,
    app: Flask,
    pool: ThreadPoolExecutor,
    provider: FakeProvider,
    wait_for: Callable[..., Any],
    problem: Problem,
) -> None:
    waiting: Future[TestResponse] = pool.submit(
        lambda: app.test_client().post("/ask", json={"question": SLOW})
    )
    record = wait_for_answer(client, wait_for, 1)
    assert record["status"] == "asking"
    assert record["answer"].startswith(BEGINNING)
    response = client.post("/qa/1/cancel")
    assert response.status_code == 200
    record = response.get_json()
    assert record == client.get("/qa/1").get_json()
    assert record["status"] == "interrupted"
    assert record["answer"].startswith(BEGINNING)
    assert not record["answer"].endswith("to come")
    assert (record["error_kind"], record["error"]) == ("cancelled", "The answer was cancelled.")
    assert problem(waiting.result(), 409, "cancelled")["record_id"] == 1
    wait_for(lambda: provider.stats.get("client_gone"))
    problem(client.post("/qa/1/cancel"), 409, "already-finished")
    problem(client.post("/qa/2/cancel"), 404, "not-found")


@pytest.mark.usefixtures("store")
def test_cancel_at_another_server_process_ends_the_answer(
    build: Callable[..., Flask], wait_for: Callable[..., Any]
) -> None:
    first, second = build().test_client(), build().test_client()
    response = first.post("/ask", json={"question": SLOW}, headers=DEFERRED)
    assert response.status_code == 202
    assert wait_for_answer(second, wait_for, 1)["answer"].startswith(BEGINNING)
    assert second.post("/qa/1/cancel").get_json()["status"] == "interrupted"


def test_cancel_of_a_process_that_does_not_react_is_accepted(
    client: FlaskClient, app: Flask, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_answers, "CANCEL_SECONDS", 0.0)
    question = DeferredQuestion(question="Who?", params={"model": "test-model"})
    store.upsert(question, Outcome())
    response = client.post("/qa/1/cancel")
    assert (response.status_code, response.headers["Location"]) == (202, "/qa/1")
    assert response.get_json()["status"] == "asking"
    # The process has ended. The next one does not ask the question again.
    assert DeferredResumer(app.extensions[state.EXTENSION_KEY])(question)
    assert store.get(1).status is Status.INTERRUPTED


def test_cancel_of_another_caller_is_not_found(
    build: Callable[..., Flask], store: Store, problem: Problem
) -> None:
    store.upsert(Question(question="Mine?", caller="ann"), Outcome())
    client = build(tokens=f"ann={'a' * 20},bob={'b' * 20}").test_client()
    headers = {"Authorization": f"Bearer {'b' * 20}"}
    problem(client.post("/qa/1/cancel", headers=headers), 404, "not-found")
    assert store.get(1).error_kind is None


def test_partial_answer_does_not_change_a_complete_record(store: Store) -> None:
    question = Question(question="Who?")
    store.upsert(question, Outcome(status=Status.ANSWERED, answer="All of it."))
    assert store.save_partial_answers({question.uid: ("Part", None)}, [question.uid]) == []
    assert store.get(1).answer == "All of it."


def test_page_shows_the_text_so_far_and_stops_without_a_script(
    client: FlaskClient, wait_for: Callable[..., Any]
) -> None:
    client.post("/ask", json={"question": SLOW}, headers=DEFERRED)
    wait_for_answer(client, wait_for, 1)
    html = client.get("/page/1").text
    assert "<p>One" in html
    assert 'action="/page/1/cancel"' in html
    assert "<p>One" in client.get("/page/1/article").text
    follow_up = client.post("/page/ask", data={"question": "And?", "follows_id": "1"})
    assert "The answer of record 1 is not complete." in follow_up.text
    response = client.post("/page/1/cancel")
    assert (response.status_code, response.headers["Location"]) == (303, "/page/1#r1")
    assert "<strong>Interrupted.</strong>" in client.get("/page/1").text
    assert client.post("/page/1/cancel").status_code == 303
