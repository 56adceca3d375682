"""The history over HTTP: filters, versions, lines, threads and tags. Paging is in test_history."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from qacli.domain import Outcome, Question, Status
from qacli.recording.recorder import MAX_GROUP
from qacli.web import state

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]

LINES = {"Accept": "application/x-ndjson"}
WHEN = datetime(2026, 11, 1, 12, tzinfo=UTC)
DETAILS: list[dict[str, Any]] = [
    {},
    {"tool_calls": [{"function": {"name": "weather", "arguments": '{"at": "\\u0000"}'}}]},
    {"tool_calls": [{"function": {"name": "clock"}}, {"function": {"name": "weather"}}]},
    {"tool_calls": "none"},
]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def ids(store: Store) -> list[int]:
    """Store four different records; return their ids."""
    found: list[int] = []
    for number in range(4):
        ask = Question(
            question=f"Question {number} about c++" if number else "What about cats?",
            system="Be brief." if number == 1 else None,
            tags=["a", "b"][:number],
            follows_id=found[0] if number == 2 else None,
            caller="alice" if number == 1 else None,
            request_id=f"r-{number}",
            created_at=WHEN + timedelta(days=number),
        )
        outcome = Outcome(
            status=Status.FAILED if number == 3 else Status.ANSWERED,
            answer="cats and cats" if number == 1 else f"Answer {number}",
            model=f"m-{number}",
            cost_usd=number / 10,
            endpoint="localhost:8000" if number == 3 else "api.openai.com",
            details=DETAILS[number],
            error_kind="broken-answer" if number == 3 else None,
            error="it broke" if number == 3 else None,
        )
        found.append(store.upsert(ask, outcome))
    return found


def fill(store: Store, number: int) -> None:
    """Store many records in few transactions."""
    for begin in range(0, number, MAX_GROUP):
        texts = range(begin, min(begin + MAX_GROUP, number))
        store.upsert_many([(Question(question=f"{each}\n\u2028"), Outcome()) for each in texts])


def ids_in(response: Any) -> list[int]:
    assert response.status_code == 200, response.text
    return [record["id"] for record in response.get_json()]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("q=cats", [0, 1]),
        ("q=c%2B%2B", [1, 2, 3]),
        ("q=%22about+c%2B%2B%22&order=desc", [3, 2, 1]),
        ("q=nothing", []),
        ("model=m-2", [2]),
        ("endpoint=api.openai.com", [0, 1, 2]),
        ("endpoint=localhost:8000", [3]),
        ("endpoint=localhost", []),
        ("status=failed", [3]),
        ("error=broken-answer", [3]),
        ("error=busy", []),
        ("tag=b", [2, 3]),
        ("tag=b&status=answered", [2]),
        ("system=brief", [1]),
        ("follows={0}", [2]),
        ("min_cost=0.2", [2, 3]),
        ("batch=1", []),
        ("request_id=r-2", [2]),
        ("caller=alice", [1]),
        ("caller=bob", []),
        ("tool=weather", [1, 2]),
        ("tool=clock&request_id=r-2", [2]),
        ("tool=a%22%20%7C%7C%201", []),
        ("since=2026-11-02T12:00:00Z", [1, 2, 3]),
        ("since=2026-11-02T13:00:00+01:00", [1, 2, 3]),
        ("until=2026-11-02T12:00:00.000Z&since=2026-11-01T00:00:00Z", [0]),
        ("since=99999d", [0, 1, 2, 3]),
        ("until=99999d", []),
    ],
)
def test_qas_filters_select_as_qa_list(
    client: FlaskClient, ids: list[int], query: str, numbers: list[int]
) -> None:
    address = "/qas?" + query.replace("{0}", str(ids[0]))
    wanted = [ids[number] for number in numbers]
    assert ids_in(client.get(address)) == wanted
    lines = client.get(address, headers=LINES)
    assert [json.loads(line)["id"] for line in lines.text.splitlines()] == wanted


def test_qas_order_best_returns_the_best_match_first(client: FlaskClient, ids: list[int]) -> None:
    response = client.get("/qas?q=cats&order=best")
    assert sorted(ids_in(response)) == ids[:2]
    assert "Link" not in response.headers
    best = client.get("/qas?q=cats&order=best&limit=1")
    assert ids_in(best) == ids_in(response)[:1]
    assert "Link" not in best.headers


def test_qas_link_keeps_the_filters(client: FlaskClient, ids: list[int]) -> None:
    response = client.get("/qas?tag=b&since=2026-11-01T00:00:00%2B02:00&limit=1")
    assert ids_in(response) == [ids[2]]
    address = response.headers["Link"].partition(">")[0][1:]
    query = parse_qs(urlsplit(address).query)
    assert query["tag"] == ["b"]
    assert datetime.fromisoformat(query["since"][0]) == WHEN - timedelta(hours=14)
    following = client.get(address)
    assert ids_in(following) == [ids[3]]
    assert "Link" not in following.headers


@on_sqlite
@pytest.mark.parametrize(
    "query",
    [
        *("order=best", "since=yesterday", "since=2026-11-01", "until=x", "min_cost=-1"),
        *("min_cost=nan", "follows=x", "batch=-1", "tag=%00", "model=%00", "q=a%00b"),
        *("since=0001-01-01T00:00:00%2B14:00", "status=done"),
    ],
)
@pytest.mark.parametrize("headers", [{}, LINES], ids=["array", "lines"])
def test_qas_invalid_filter_is_named(
    client: FlaskClient, query: str, headers: dict[str, str], problem: Problem
) -> None:
    members = problem(client.get(f"/qas?{query}", headers=headers), 422, "invalid-request")
    assert [error["field"] for error in members["errors"]] == [query.partition("=")[0]]


@on_sqlite
def test_qas_order_best_with_after_is_refused(client: FlaskClient, problem: Problem) -> None:
    problem(client.get("/qas?q=x&order=best&after=1"), 422, "invalid-request")


def test_qa_record_with_a_known_etag_is_not_sent(
    client: FlaskClient, ids: list[int], store: Store
) -> None:
    address = f"/qa/{ids[0]}"
    first = client.get(address)
    tag = first.headers["ETag"]
    assert tag.startswith('"')
    assert first.headers["Cache-Control"] == "private, no-cache"
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = client.get(address, headers={"If-None-Match": known})
        assert (response.status_code, response.data) == (304, b"")
        assert response.headers["ETag"] == tag
    store.change_tags(ids[0], ["new"], [])
    response = client.get(address, headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert response.get_json()["tags"] == ["new"]
    assert response.headers["ETag"] != tag
    head = client.head(address)
    assert (head.status_code, head.headers["ETag"]) == (200, response.headers["ETag"])


def test_qas_as_ndjson_returns_the_whole_history(client: FlaskClient, store: Store) -> None:
    fill(store, 1203)
    response = client.get("/qas", headers=LINES)
    assert response.content_type == "application/x-ndjson"
    records = [json.loads(line) for line in response.text.rstrip("\n").split("\n")]
    assert [record["question"] for record in records] == [f"{n}\n\u2028" for n in range(1203)]
    assert records[-1] == store.newest().to_dict()
    response = client.get("/qas?order=desc&limit=1100&before=1203", headers=LINES)
    ids = [json.loads(line)["id"] for line in response.text.rstrip("\n").split("\n")]
    assert ids == list(range(1202, 102, -1))
    response = client.get("/qas?after=50&limit=1001", headers=LINES)
    assert response.text.count("\n") == 1001


@on_sqlite
def test_qas_as_ndjson_of_an_empty_history_is_empty(client: FlaskClient) -> None:
    response = client.get("/qas", headers=LINES)
    assert (response.status_code, response.data) == (200, b"")


@on_sqlite
def test_qas_as_ndjson_takes_a_slot_and_frees_it(
    store: Store, build: Callable[..., Flask], problem: Problem
) -> None:
    store.upsert(Question(question="Who?"), Outcome(status=Status.ANSWERED))
    app = build(threads=1)
    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    with running.slot():
        problem(app.test_client().get("/qas", headers=LINES), 503, "busy")
    for _ in range(3):
        app.test_client().get("/qas", headers=LINES).close()  # read or not
    with running.slot():
        pass


@on_sqlite
def test_qas_as_ndjson_without_the_database_is_a_problem(
    build: Callable[..., Flask], problem: Problem
) -> None:
    response = build().test_client().get("/qas", headers=LINES)
    problem(response, 503, response.get_json(force=True)["kind"])


@on_sqlite
def test_qas_as_ndjson_cut_off_ends_with_an_error_line(client: FlaskClient, store: Store) -> None:
    fill(store, 1001)
    response = client.get("/qas", headers=LINES)
    pieces = response.iter_encoded()
    assert next(pieces)
    with store.transaction(write=True) as connection:
        connection.exec_driver_sql("ALTER TABLE question_answer RENAME TO gone")
    last = json.loads(b"".join(pieces).splitlines()[-1])
    assert (last["kind"], last["status"]) == ("database", 503)


def test_qa_thread_returns_records_from_the_first(
    client: FlaskClient, ids: list[int], problem: Problem
) -> None:
    assert ids_in(client.get(f"/qa/{ids[2]}/thread")) == [ids[0], ids[2]]
    assert ids_in(client.get(f"/qa/{ids[1]}/thread")) == [ids[1]]
    problem(client.get("/qa/99/thread"), 404, "not-found")


def test_patch_qa_adds_and_removes_tags(
    client: FlaskClient, ids: list[int], store: Store, problem: Problem
) -> None:
    address = f"/qa/{ids[3]}"
    response = client.patch(address, json={"add_tags": ["ß", "a"], "remove_tags": ["b"]})
    assert response.status_code == 200
    assert response.get_json()["tags"] == ["a", "ß"]
    assert response.get_json() == store.get(ids[3]).to_dict()
    assert client.patch(address, json={}).get_json()["tags"] == ["a", "ß"]
    problem(client.patch("/qa/99", json={"add_tags": ["a"]}), 404, "not-found")


@on_sqlite
def test_patch_qa_removes_invalid_tags(client: FlaskClient, store: Store) -> None:
    # An imported record may have these values.
    record_id = store.upsert(Question(question="?", tags=["", " a", "b"]), Outcome())
    changed = client.patch(f"/qa/{record_id}", json={"remove_tags": ["", " a"]})
    assert changed.get_json()["tags"] == ["b"]


@on_sqlite
@pytest.mark.parametrize(
    "body",
    [
        *([], {"tags": ["a"]}, {"add_tags": "a"}, {"add_tags": [""]}, {"add_tags": [" a"]}),
        *({"add_tags": ["\x00"]}, {"remove_tags": [5]}, {"question": "x"}),
    ],
)
def test_patch_qa_other_changes_are_refused(
    client: FlaskClient, ids: list[int], problem: Problem, body: Any
) -> None:
    before = client.get(f"/qa/{ids[0]}").data
    problem(client.patch(f"/qa/{ids[0]}", json=body), 422, "invalid-request")
    problem(client.patch(f"/qa/{ids[0]}", data="x"), 415, "unsupported-media-type")
    assert client.get(f"/qa/{ids[0]}").data == before
