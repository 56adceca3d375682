"""A question asked again from the page, or asked of two models."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, Any

from qacli.domain import Outcome, Question, Status
from qacli.json_schema import response_format

from .test_views import BROWSER, EVENTS, events_of, on_sqlite, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_provider import FakeProvider
    from flask.testing import FlaskClient

    from qacli.db.records import Store


def add_record(store: Store, question: str = "Why?", **fields: Any) -> int:
    """Store an answered record."""
    params = {"model": "other", "temperature": 0.5, **fields.pop("params", {})}
    outcome = Outcome(status=Status.ANSWERED, answer="Because.", model="other")
    return store.upsert(Question(question=question, params=params, **fields), outcome)


def test_ask_again_keeps_the_options_and_names_the_first_record(
    client: FlaskClient, store: Store
) -> None:
    first = add_record(store, "Root")
    form = response_format({"type": "object"})
    second = add_record(
        store, "[[text={}]]", follows_id=first, system="Short.", params={"response_format": form}
    )
    page = client.get(f"/page/{second}").text
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.partition("Because.")[2]))
    assert (fields["follows_id"], fields["repeats_id"]) == (str(first), str(second))
    again = {name: fields[name] for name in ("follows_id", "repeats_id")}
    for _ in range(2):
        response = client.post("/page/ask", data={"question": "[[text={}]]", **again})
        record = store.newest()
        assert response.location == f"/page/{record.id}#r{record.id}"
        assert (record.repeats_id, record.follows_id, record.system) == (second, first, "Short.")
        assert record.params == store.get(second).params
        # A repetition that is asked again refers to the first record.
        again["repeats_id"] = str(record.id)


@on_sqlite
def test_edited_question_names_its_record_and_may_drop_the_system_prompt(
    client: FlaskClient, store: Store
) -> None:
    add_record(store, system="Short.")
    page = client.get("/?edit=1").text
    assert 'name="repeats_id" id="repeats" value="1"' in page
    client.post("/page/ask", data={"question": "Why now?", "system": "", "repeats_id": "1"})
    record = store.newest()
    assert (record.question, record.repeats_id, record.system) == ("Why now?", 1, None)


@on_sqlite
def test_edit_in_a_thread_without_order_of_ids_shows_the_records_before(
    client: FlaskClient, store: Store
) -> None:
    add_record(store, follows_id=3)
    add_record(store, follows_id=1)
    add_record(store)
    for record_id, before in ((1, ["3"]), (2, ["3", "1"])):
        page = client.get(f"/?edit={record_id}").text
        assert re.findall(r'<article[^>]*id="r(\d+)"', page) == before


@on_sqlite
def test_ask_again_of_a_question_with_files_needs_the_files(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    add_record(store, attachments=[{"name": "<b>.txt", "size": 2, "sha256": "0" * 64}])
    assert 'name="repeats_id"' not in client.get("/page/1").text.partition('id="ask"')[0]
    assert "asked with &lt;b&gt;.txt, which the history" in client.get("/?edit=1").text
    form = {"question": "Why?", "repeats_id": "1"}
    page = client.post("/page/ask", data=form, headers=BROWSER)
    assert (page.status_code, "Add the files again." in text_of(page)) == (422, True)
    assert provider.requests == []
    client.post("/page/ask", data={**form, "files": (BytesIO(b"a\n"), "<b>.txt")})
    assert store.get(2).repeats_id == 1


@on_sqlite
def test_ask_again_of_no_record_is_refused(client: FlaskClient, store: Store) -> None:
    for repeats_id, status in (("7", 404), ("x", 422), ("9" * 30, 422)):
        form = {"question": "Why?", "repeats_id": repeats_id}
        page = client.post("/page/ask", data=form, headers=BROWSER)
        assert (page.status_code, page.mimetype) == (status, "text/html")
        assert client.post("/page/ask", data=form, headers=EVENTS).status_code == status
    assert store.page(limit=1) == []


def test_ask_form_with_a_second_model_asks_both_and_compares(
    client: FlaskClient, store: Store, provider: FakeProvider, wait_for: Callable[..., Any]
) -> None:
    form = {"question": "Why?", "model": "a", "second_model": "b", "system": "Short."}
    files = {"files": (BytesIO(b"Sunny."), "note.txt")}
    response = client.post("/page/ask", data={**form, **files}, headers=BROWSER)
    assert response.location == "/page/1/compare"
    wait_for(lambda: store.get(1).status is Status.ANSWERED)
    assert sorted(request.body["model"] for request in provider.requests) == ["a", "b"]
    first, second = store.get(1), store.get(2)
    assert (first.repeats_id, second.repeats_id) == (None, 1)
    assert first.attachments == second.attachments != []
    assert (second.system, second.params["model"]) == ("Short.", "b")
    assert re.findall(r'<article[^>]*id="r(\d+)"', client.get(response.location).text) == ["1", "2"]


@on_sqlite
def test_ask_form_with_a_second_model_that_cannot_be_asked_asks_none(
    client: FlaskClient, provider: FakeProvider, store: Store
) -> None:
    form = {"question": "Why?", "second_model": "local:/etc/passwd"}
    page = client.post("/page/ask", data=form, headers=BROWSER)
    assert (page.status_code, "local model" in text_of(page)) == (422, True)
    assert 'name="second_model" list="models" value="local:/etc/passwd"' in page.text
    assert provider.requests == []
    assert store.page(limit=1) == []


@on_sqlite
def test_ask_form_with_a_failing_second_model_still_compares(
    client: FlaskClient, store: Store, wait_for: Callable[..., Any]
) -> None:
    form = {"question": "Why? [[status=400 times=2]]", "model": "a", "second_model": "b"}
    assert client.post("/page/ask", data=form, headers=BROWSER).location == "/page/1/compare"
    wait_for(lambda: store.get(1).status is Status.FAILED)
    assert text_of(client.get("/page/1/compare")).count("provider-refused") >= 2


def test_ask_form_stream_with_repeats_id_ties_the_second_record(
    client: FlaskClient, store: Store
) -> None:
    form = {"question": "Why?", "model": "a"}
    client.post("/page/ask", data=form, headers=EVENTS).close()
    second = {**form, "model": "b", "repeats_id": "1"}
    name, data = events_of(client.post("/page/ask", data=second, headers=EVENTS))[-1]
    assert (name, data["id"], store.get(2).repeats_id) == ("done", 2, 1)
