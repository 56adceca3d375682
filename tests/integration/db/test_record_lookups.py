"""Records by their HTTP request and by the tools that the model called, without a scan."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from qacli.db import migrate
from qacli.db.filters import Filter
from qacli.db.models import RECORDS, ToolCall
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from qacli.db.records import Store

CALLS = ToolCall.__table__  # type: ignore[attr-defined]
LONG_NAME = "ß" * 5000


def calls(*names: object) -> dict[str, Any]:
    return {"tool_calls": [{"function": {"name": name, "arguments": "{}"}} for name in names]}


def ids(store: Store, tool: str) -> list[int | None]:
    return [record.id for record in store.page(limit=9, only=Filter(tool=tool))]


def names(store: Store) -> list[tuple[str, int]]:
    with store.reading() as connection:
        return [(row.name, row.record_id) for row in connection.execute(sa.select(CALLS))]


@pytest.fixture
def big(store: Store) -> Store:
    """A history with 5,000 records and PostgreSQL's statistics of them."""
    rows = [
        {
            "question": "Hi",
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "status": Status.ANSWERED,
            "params": {},
            "tags": [],
            "attachments": [],
            "details": calls(f"tool-{number % 500}", "common"),
            "uid": f"{number:032x}",
            "request_id": f"request-{number}",
            "caller": "a" if number % 2 else "b",
        }
        for number in range(5000)
    ]
    with store.transaction(write=True) as connection:
        connection.execute(sa.insert(RECORDS), rows)
        connection.exec_driver_sql("ANALYZE")
    return store


@pytest.mark.parametrize(
    ("only", "index", "count"),
    [
        (Filter(request_id="request-7"), "ix_question_answer_request_id", 1),
        (Filter(request_id="request-7", owner="a"), "ix_question_answer_request_id", 1),
        (Filter(tool="tool-7"), "tool_call", 10),
    ],
)
def test_lookup_in_a_big_history_uses_an_index(
    big: Store, only: Filter, index: str, count: int
) -> None:
    query = sa.select(RECORDS.c.id).where(*only.conditions(sqlite=big.sqlite))
    query = query.order_by(RECORDS.c.id).limit(100)
    with big.reading() as connection:
        sql = query.compile(connection.engine, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if big.sqlite else "EXPLAIN"
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(f"{explain} {sql}"))
    assert index in plan
    assert "SCAN question_answer" not in plan
    assert "Seq Scan" not in plan
    assert big.count(only) == count


def test_tool_names_follow_their_records(store: Store) -> None:
    question = Question(question="?")
    store.upsert(question, Outcome())
    assert names(store) == []
    details = calls("a", "b", "a", None, 5, LONG_NAME)
    details["tool_calls"] += [
        "text",
        {"name": "plain"},
        {"type": "custom", "custom": {"name": "c"}},
    ]
    store.upsert_many([(question, Outcome(status=Status.ANSWERED, details=details))])
    assert [ids(store, name) for name in ("a", "b", "plain", "c", LONG_NAME)] == [[1]] * 5
    assert ids(store, "text") == ids(store, "d") == []
    item = replace(question, uid="item", batch_id=1, item_key="k")
    for name in ("x", "y"):
        failed = Outcome(status=Status.FAILED, details=calls(name))
        store.upsert_items(1, [(item, failed)])
    assert (ids(store, "x"), ids(store, "y")) == ([], [2])
    store.remove(1)
    assert names(store) == [("y", 2)]


def test_migration_has_the_tool_names_of_older_records(store: Store) -> None:
    for details in ({}, calls("a", "b"), {"tool_calls": "none"}):
        outcome = Outcome(status=Status.ANSWERED, details=details)
        store.upsert(Question(question=json.dumps(details)), outcome)
    before = names(store)
    with store.migrating() as connection:
        migrate.downgrade(connection, "0014")
        assert "tool_call" not in sa.inspect(connection).get_table_names()
        migrate.upgrade(connection)
    assert sorted(names(store)) == sorted(before) == [("a", 2), ("b", 2)]
    store.remove(2)
    assert names(store) == []
