import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import migrated

from qacli.config import Settings
from qacli.errors import InvalidRequest
from qacli.exchange import Ask, Outcome, Status, now
from qacli.store import Store
from qacli.store.filters import Filter
from qacli.store.moving import Moved, of_lines, of_llm, take_in
from qacli.store.stats import By, stats


def kept(store: Store, question: str, **fields: object) -> int:
    answer = Outcome(
        status=Status.ANSWERED,
        answer=f"Answer to {question}",
        answered_at=now(),
        latency_ms=1500,
        model="m-1",
        prompt_tokens=2,
        completion_tokens=3,
        cost_usd=0.00012345678901234,
    )
    params = {"temperature": 0.5, "model": "m", "a": {"z": 1, "b": [1.0, 1e-7]}}
    ask = Ask(question=question, params=params)
    return store.keep(replace(ask, **fields), answer)


def exported(store: Store) -> list[str]:
    return [json.dumps(each, ensure_ascii=False) for each in store.documents()]


@pytest.fixture
def other(home: Path, store: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty history of the other kind."""
    url = (
        request.getfixturevalue("postgres_url")
        if store.sqlite
        else f"sqlite:///{home / 'other' / 'history.db'}"
    )
    other = migrated(Settings(data_dir=home, database_url=url))
    yield other
    other.close()


def test_a_history_moves_to_the_other_kind_of_database_and_back(store: Store, other: Store) -> None:
    first = kept(store, "Grüße, 世界 🌍\r\n\t'\"", tags=["b", "a"], idempotency_key="k")
    kept(store, "two", follows_id=first, attachments=[{"size": 1, "name": "f", "sha256": "0"}])
    gone = kept(store, "gone")
    store.remove(gone)
    kept(store, "four", batch_id=1, item_key="x")
    lines = exported(store)
    assert take_in(other, of_lines(lines)) == Moved(added=3)
    assert exported(other) == lines
    assert take_in(other, of_lines(lines)) == Moved(there=3)
    assert take_in(store, of_lines(exported(other))) == Moved(there=3)
    assert exported(store) == exported(other) == lines
    assert kept(other, "next") == 5


def test_a_taken_id_gets_another_and_its_follow_ups_are_pointed_there(
    store: Store, other: Store
) -> None:
    first = kept(store, "one")
    kept(store, "two", follows_id=first, idempotency_key="same")
    kept(other, "was here", idempotency_key="same")
    moved = take_in(other, of_lines(exported(store)))
    assert (moved.added, moved.renumbered) == (2, 1)
    by_question = {record.question: record for record in other.page(limit=10)}
    assert by_question["was here"].id == 1
    assert by_question["two"].id == 2
    assert by_question["two"].follows_id == by_question["one"].id == 3
    assert by_question["two"].idempotency_key is None
    assert take_in(other, of_lines(exported(store))).there == 2


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "{}",
        "[]",
        '{"question": "q", "uid": "u", "created_at": "2026-01-01T00:00:00", "status": "answered"}',
        '{"question": "q", "uid": "u", "created_at": "2026-01-01T00:00:00Z", "status": "odd"}',
        '{"question":"\\u0000", "uid":"u", "created_at": "2026-01-01T00:00Z", "status": "failed"}',
        '{"question": "q", "uid": "u", "created_at": "2026-01-01T00:00Z","status":"failed","x":1}',
    ],
)
def test_what_is_no_record_is_refused(store: Store, line: str) -> None:
    with pytest.raises(InvalidRequest):
        take_in(store, of_lines([line]))
    assert store.count() == 0


def test_the_logs_of_llm_come_with_their_conversations(store: Store, home: Path) -> None:
    path = home / "logs.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT,"
            " options_json TEXT, response TEXT, conversation_id TEXT, duration_ms INTEGER,"
            " datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER, resolved_model TEXT)"
        )
        database.executemany(
            "INSERT INTO responses VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                ("a", "gpt", "one", None, "{}", "1", "c", 10, "2025-01-01T00:00:00", 1, 2, "gpt-x"),
                (
                    "b",
                    "gpt",
                    "two",
                    "s",
                    '{"temperature": 0.5}',
                    "2",
                    "c",
                    20,
                    "2025-01-02T00:00:00+00:00",
                    None,
                    None,
                    None,
                ),
                (
                    "c",
                    "gpt",
                    "odd\0",
                    None,
                    None,
                    "",
                    None,
                    None,
                    "2025-01-03T00:00:00",
                    1,
                    2,
                    None,
                ),
            ],
        )
    database.close()
    assert take_in(store, of_llm(str(path))).added == 3
    assert take_in(store, of_llm(str(path))).there == 3
    one, two, odd = store.page(limit=5)
    assert (one.question, one.answer, one.model, one.tags) == ("one", "1", "gpt-x", ["llm"])
    assert two.follows_id == one.id
    assert two.params == {"model": "gpt", "temperature": 0.5}
    assert (odd.status, odd.question) == (Status.FAILED, "odd\ufffd")
    with pytest.raises(InvalidRequest):
        take_in(store, of_llm(str(home / "none.db")))


def test_what_is_pruned_is_gone_from_the_file(store: Store) -> None:
    kept(store, "a-very-secret-question")
    tagged = kept(store, "spared", tags=["t"])
    assert store.count(Filter(untagged=True)) == 1
    assert store.remove_all(Filter(untagged=True)) == 1
    assert [record.id for record in store.page(limit=5)] == [tagged]
    if store.sqlite:
        file = Path(store.url.removeprefix("sqlite:///"))
        for path in file.parent.glob(f"{file.name}*"):
            assert path.is_dir() or b"secret" not in path.read_bytes()


def test_tags_are_added_once_and_taken_off(store: Store) -> None:
    record_id = kept(store, "q", tags=["a", "b"])
    assert store.tag(record_id, ["c", "a", "c"], ["b"]) == ["a", "c"]
    assert store.get(record_id).tags == ["a", "c"]
    assert store.page(limit=5, only=Filter(tag="c"))
    assert not store.page(limit=5, only=Filter(tag="b"))


def test_numbers_by_day_model_and_tag(store: Store) -> None:
    kept(store, "one", tags=["x", "y"])
    kept(store, "two", tags=["x"])
    store.keep(Ask(question="bad"), Outcome(status=Status.FAILED, error="provider-refused: no"))
    (day,) = stats(store, By.DAY, Filter())
    assert (day.records, day.answered, day.prompt_tokens, day.latency_ms) == (3, 2, 4, 1500)
    assert day.name == f"{now():%Y-%m-%d}"
    assert [(row.name, row.records) for row in stats(store, By.TAG, Filter())] == [
        ("x", 2),
        ("y", 1),
    ]
    by_model = {row.name: row.cost_usd for row in stats(store, By.MODEL, Filter())}
    assert by_model["(none)"] is None
    assert stats(store, By.BATCH, Filter()) == []
