"""Long system prompts, tools and schemas, which are stored once for many records."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from qacli.db import migrate
from qacli.db.filters import Filter
from qacli.db.import_source import open_import_source
from qacli.db.importers import import_records
from qacli.db.models import RECORDS, VALUES
from qacli.db.purge import delete_matching
from qacli.db.qa_exports import read_json_lines
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYSTEM = "Be brief, änd sing 🎵. " * 20
TOOLS = [
    {"type": "function", "function": {"name": f"tool_{number}", "default": None, "n": 1.5}}
    for number in range(9)
]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x" * 300, "schema": {"enum": [None]}}}
ANSWERED = Outcome(status=Status.ANSWERED, answer="Yes")
RENAMED = replace(ANSWERED, answer="No")


def question(text: str = "Who?", **params: Any) -> Question:
    return Question(question=text, system=SYSTEM, params={"model": "m", **params})


def values(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(
            connection.scalars(sa.select(VALUES.c.value).order_by(sa.func.length(VALUES.c.value)))
        )


@pytest.fixture
def agent(store: Store) -> Store:
    """A history with three records of an agent, and one with short settings."""
    store.upsert(question(tools=TOOLS, temperature=0), ANSWERED)
    store.upsert_many([(question(f"And {number}?", tools=TOOLS), ANSWERED) for number in range(2)])
    store.upsert(Question(question="Hi", system="Sing.", params={"tools": []}), ANSWERED)
    return store


def test_values_of_many_records_are_stored_once(agent: Store) -> None:
    system, params = values(agent)
    assert system == SYSTEM
    assert json.loads(params) == {"tools": TOOLS}
    with agent.reading() as connection:
        rows = connection.execute(
            sa.select(RECORDS.c.system, RECORDS.c.params).order_by(RECORDS.c.id)
        ).all()
    assert [tuple(row) for row in rows] == [
        (None, {"model": "m", "temperature": 0}),
        *[(None, {"model": "m"})] * 2,
        ("Sing.", {"tools": []}),
    ]


READERS: dict[str, Callable[[Store], dict[str, Any]]] = {
    "get": lambda store: store.get(1).to_dict(),
    "get_dict": lambda store: store.get_dict(1),
    "get_many": lambda store: store.get_many([1])[0].to_dict(),
    "page": lambda store: store.page(limit=1)[0].to_dict(),
    "search": lambda store: store.search(Filter(search="who"), 1)[0].to_dict(),
    "thread": lambda store: store.thread(1)[0].to_dict(),
    "followers": lambda store: store.followers(4, 1)[0].to_dict(),
    "newest": lambda store: store.newest(4).to_dict(),
    "dicts": lambda store: next(store.dicts()),
    "json_lines": lambda store: json.loads(next(store.json_lines())),
}


@pytest.mark.parametrize("reader", READERS)
def test_values_are_in_the_records_of_every_query(agent: Store, reader: str) -> None:
    if reader == "followers":
        with agent.transaction(write=True) as connection:
            connection.execute(sa.update(RECORDS).where(RECORDS.c.id == 1).values(follows_id=4))
    record = READERS[reader](agent)
    assert record["system"] == SYSTEM
    assert record["params"] == {"model": "m", "temperature": 0, "tools": TOOLS}


def test_values_count_for_the_cache_and_for_uids(store: Store) -> None:
    asked = question(tools=TOOLS, response_format=SCHEMA)
    store.upsert(asked, ANSWERED)
    record = store.find_cached(replace(asked, uid="other"))
    assert record is not None
    assert record.params["response_format"] == SCHEMA
    by_uid = store.by_uid(asked.uid)
    assert by_uid is not None
    assert by_uid.system == SYSTEM
    assert store.find_cached(question(tools=TOOLS[1:], response_format=SCHEMA)) is None


def test_values_are_found_by_the_filter_of_system_prompts(agent: Store) -> None:
    assert [record.id for record in agent.page(limit=9, only=Filter(system="änd"))] == [1, 2, 3]
    assert agent.count(Filter(system="ing")) == 4
    assert agent.count(Filter(system="tool_")) == 0


def test_value_is_deleted_with_its_last_record(agent: Store) -> None:
    agent.upsert(question(tools=TOOLS[:5]), ANSWERED)
    assert len(values(agent)) == 3
    agent.remove(5)
    assert len(values(agent)) == 2
    for record_id in (1, 2):
        agent.remove(record_id)
    assert len(values(agent)) == 2
    agent.remove(3)
    assert values(agent) == []


def test_value_is_deleted_with_many_records_and_unsent_ones(agent: Store) -> None:
    reserved = question("?", tools=TOOLS[:4])
    agent.upsert(reserved, Outcome())
    agent.delete_reserved([reserved.uid])
    assert len(values(agent)) == 2
    assert delete_matching(agent, Filter(system="änd")) == 3
    assert values(agent) == []
    assert agent.count() == 1


def test_values_are_whole_while_records_are_added_and_removed(store: Store) -> None:
    def work(number: int) -> None:
        for turn in range(8):
            added = store.upsert(question(f"{number} {turn}", tools=TOOLS), ANSWERED)
            assert store.get(added).system == SYSTEM
            store.remove(added)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert values(store) == []


def test_values_of_batch_items_are_shared(store: Store) -> None:
    items = [
        replace(question(f"{number}?", response_format=SCHEMA), batch_id=1, item_key=str(number))
        for number in range(3)
    ]
    failed = Outcome(status=Status.FAILED, error_kind="x", error="y")
    store.upsert_items(1, [(item, failed) for item in items])
    store.upsert_items(1, [(item, ANSWERED) for item in items])
    assert len(values(store)) == 2
    assert [record.params["response_format"] for record in store.page(limit=9)] == [SCHEMA] * 3
    other = replace(
        question("9?", tools=TOOLS), uid="other", batch_id=1, item_key="9", system=SYSTEM * 2
    )
    store.upsert_items(1, [(other, failed)])
    store.upsert_items(1, [(replace(other, system=None, params={"model": "n"}), RENAMED)])
    record = store.newest()
    assert (record.system, record.params, record.answer) == (None, {"model": "n"}, "No")


def test_values_survive_export_and_import(agent: Store, home: Path) -> None:
    before = list(agent.dicts())
    lines = list(agent.json_lines())
    with closing(Store.open(f"sqlite:///{home / 'other.db'}")) as other:
        assert import_records(other, read_json_lines(lines)).added == 4
        assert list(other.dicts()) == before
        assert len(values(other)) == 2
    delete_matching(agent, Filter())
    # Merge the file of that history, with its own values and those of another record.
    agent.upsert(question("Another?", tools=TOOLS), ANSWERED)
    with open_import_source(str(home / "other.db")) as source:
        result = import_records(agent, source.documents)
        assert (result.added, dict(source.omitted)) == (4, {})
    merged = {record["uid"]: record for record in agent.dicts()}
    assert [merged[record["uid"]]["params"] for record in before] == [
        record["params"] for record in before
    ]
    assert [merged[record["uid"]]["system"] for record in before] == [
        record["system"] for record in before
    ]
    # The tools of that file have the order of an export, and those of the record another one.
    assert len(values(agent)) == 3


def test_values_of_a_damaged_history_are_named(home: Path, store: Store) -> None:
    path = home / "other.db"
    with closing(Store.open(f"sqlite:///{path}")) as other:
        other.upsert(question(tools=TOOLS), ANSWERED)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE shared_value SET value = 'no JSON'")
        database.commit()
    with open_import_source(str(path)) as source:
        import_records(store, source.documents)
    assert store.newest().params == {"model": "m"}


def test_downgrade_puts_values_back_into_their_records(agent: Store) -> None:
    agent.upsert(Question(question="?", params={"tools": TOOLS}), ANSWERED)
    before = list(agent.dicts())
    with agent.migrating() as connection:
        migrate.downgrade(connection, "0013")
        rows = connection.exec_driver_sql("SELECT system, params FROM question_answer ORDER BY id")
        stored = [(system, _parsed(params)) for system, params in rows]
    assert stored == [(record["system"], record["params"]) for record in before]
    with agent.migrating() as connection:
        migrate.upgrade(connection)
    # Records of an older version are read as they are.
    assert list(agent.dicts()) == before
    assert agent.get(1).to_dict() == before[0]
    assert values(agent) == []


def _parsed(params: Any) -> Any:
    return json.loads(params) if isinstance(params, str) else params
