import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

import pytest
from conftest import Postgres, migrated
from pydantic_core import to_json

from qacli.config.settings import Settings
from qacli.db import export, importers
from qacli.db.filters import Filter
from qacli.db.importers import ImportResult, import_records
from qacli.db.purge import delete_matching, purge_deleted
from qacli.db.qa_exports import read_json_lines
from qacli.db.records import Store
from qacli.db.stats import stats
from qacli.db.thread_list import list_threads
from qacli.domain import GroupBy, Outcome, Question, Status, now
from qacli.errors import InvalidRequest
from qacli.record_fields import RECORD_FIELDS

RANDOM_RECORDS = 100


def add_record(store: Store, question: str, **fields: object) -> int:
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
    ask = Question(question=question, params=params)
    return store.upsert(replace(ask, **fields), answer)


def export_lines(store: Store) -> list[str]:
    return [json.dumps(each, ensure_ascii=False) for each in store.dicts()]


def to_lines(found: Iterable[dict[str, Any]]) -> list[str]:
    return [to_json(each).decode() for each in found]


@pytest.fixture
def other(home: Path, store: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty history on the other kind of database."""
    url = (
        request.getfixturevalue("postgres_url")
        if store.sqlite
        else f"sqlite:///{home / 'other' / 'history.db'}"
    )
    other = migrated(Settings(data_dir=home, database_url=url))
    yield other
    other.close()


def test_import_to_the_other_database_and_back_keeps_all(store: Store, other: Store) -> None:
    first = add_record(store, "Grüße, 世界 🌍\r\n\t'\"", tags=["b", "a"], idempotency_key="k")
    add_record(
        store, "two", follows_id=first, attachments=[{"size": 1, "name": "f", "sha256": "0"}]
    )
    gone = add_record(store, "gone")
    store.remove(gone)
    add_record(store, "four", batch_id=1, item_key="x")
    lines = export_lines(store)
    assert import_records(other, read_json_lines(lines)) == ImportResult(added=3)
    assert export_lines(other) == lines
    assert import_records(other, read_json_lines(lines)) == ImportResult(skipped=3)
    assert import_records(store, read_json_lines(export_lines(other))) == ImportResult(skipped=3)
    assert export_lines(store) == export_lines(other) == lines
    assert add_record(other, "next") == 5


ODD = (
    *(
        "Grüße",
        "世界",
        "🌍",
        "e\u0301",
        "\u2028",
        "\u0085",
        "\ufeff",
        "\r",
        "\n",
        "\t",
        "\x01",
        "\x7f",
    ),
    *(
        '"',
        "'",
        "\\",
        "\\u0000",
        "%s",
        ":p",
        "NULL",
        "null",
        " ",
        "  ",
        "{}",
        "[]",
        "<a>",
        "-0",
        "\U0010ffff",
    ),
)
NUMBERS = (0, -1, 2**53 + 1, 2**63, 0.5, 1.0, -0.0, 1e-7, 5e-324, 1e15, 1e16, 1e22, 1e23, 1.7e308)


def random_text(chance: random.Random) -> str:
    return "x" + "".join(chance.choice(ODD) for _ in range(chance.randrange(12)))


def random_json(chance: random.Random, depth: int = 3) -> Any:
    kind = chance.randrange(6 if depth else 4)
    if kind == 4:
        return [random_json(chance, depth - 1) for _ in range(chance.randrange(3))]
    if kind == 5:
        return {random_text(chance): random_json(chance, depth - 1) for _ in range(3)}
    numbers = chance.choice(NUMBERS), chance.uniform(-1, 1) * 10.0 ** chance.randrange(-30, 30)
    return (chance.choice([None, True, False]), random_text(chance), *numbers)[kind]


def random_time(chance: random.Random) -> datetime:
    zone = timezone(timedelta(minutes=chance.randrange(-720, 840, 15)))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=chance.randrange(2**52))
    part = chance.choice([moment.microsecond, moment.microsecond // 1000 * 1000, 0])
    return moment.replace(microsecond=part).astimezone(zone)


def random_fields(chance: random.Random, part: type[Question | Outcome]) -> dict[str, Any]:
    """Return random values for all fields of a class, by their types."""
    make: dict[Any, Callable[[], Any]] = {
        str: lambda: random_text(chance),
        int: lambda: chance.choice([0, 1, 2**31, 2**63 - 1]),
        float: lambda: chance.random() * 10.0 ** chance.randrange(-12, 12),
        datetime: lambda: random_time(chance),
        Status: lambda: chance.choice(list(Status)),
        list[str]: lambda: [random_text(chance) for _ in range(chance.randrange(4))],
        dict[str, Any]: lambda: {random_text(chance): random_json(chance) for _ in range(3)},
        list[dict[str, Any]]: lambda: [
            {"name": random_text(chance), "size": chance.randrange(2**40), "sha256": "0" * 64}
            for _ in range(chance.randrange(3))
        ],
    }
    values = {}
    for item in fields(part):
        kinds = get_args(item.type) if isinstance(item.type, UnionType) else (item.type,)
        optional = NoneType in kinds and chance.random() < 0.3
        values[item.name] = None if optional else make[kinds[0]]()
    return values


def random_record(chance: random.Random, number: int) -> tuple[Question, Outcome]:
    ask = random_fields(chance, Question)
    ask |= {"uid": f"{number:032x}", "follows_id": chance.choice([None, *range(1, number + 2)])}
    for name in ("item_key", "idempotency_key"):  # they are unique
        ask[name] = ask[name] and f"{number} {ask[name]}"
    return Question(**ask), Outcome(**random_fields(chance, Outcome))


def test_import_random_records_to_the_other_database_is_exact(store: Store, other: Store) -> None:
    chance = random.Random(1)
    for number in range(RANDOM_RECORDS):
        record_id = store.upsert(*random_record(chance, number))
        if chance.random() < 0.1:
            store.remove(record_id)
    lines = export_lines(store)
    # The driver returns the same values as the record.
    assert lines == [
        json.dumps(each.to_dict(), ensure_ascii=False) for each in store.page(limit=1000)
    ]
    assert list(store.json_lines()) == to_lines(store.dicts())
    documents = [json.loads(line) for line in lines]
    for name in RECORD_FIELDS:
        assert len({json.dumps(each[name]) for each in documents}) > 1, f"{name} is always the same"
    assert {each["status"] for each in documents} == set(Status)
    assert import_records(other, read_json_lines(f"{line}\n" for line in lines)).added == len(lines)
    assert export_lines(other) == lines
    assert import_records(other, read_json_lines(lines)) == ImportResult(skipped=len(lines))
    assert import_records(store, read_json_lines(export_lines(other))) == ImportResult(
        skipped=len(lines)
    )
    assert export_lines(store) == export_lines(other) == lines


@pytest.mark.parametrize(
    "stretch",
    [
        {},
        {"limit": 0},
        {"limit": 10},
        {"limit": 1234},
        {"after": 5, "before": 2005},
        {"newest_first": True, "limit": 1500, "before": 2000},
        {"newest_first": True, "after": 1100},
        {"after": 2500},
    ],
)
def test_json_lines_equal_the_documents_for_every_filter(
    store: Store, stretch: export.IdRange
) -> None:
    ask, outcome = Question(question="100 %s of it", tags=["t"]), Outcome(status=Status.ANSWERED)
    rare = Outcome(status=Status.FAILED, error="No", latency_ms=7, cost_usd=1e-5, model="%b")
    store.upsert_items(
        1,
        [
            (replace(ask, uid=f"{n}", item_key=f"{n}"), rare if n % 700 == 9 else outcome)
            for n in range(2400)
        ],
    )
    for only in (Filter(), Filter(search="of it", status="failed", tag="t", since=ask.created_at)):
        lines = list(store.json_lines(only, **stretch))
        assert lines == to_lines(store.dicts(only, **stretch))
        assert lines == to_lines(
            each.to_dict()
            for each in store.page(
                only=only,
                **{name: stretch[name] for name in stretch if name != "limit"},
                limit=stretch.get("limit", 5000),
            )
        )


@pytest.mark.parametrize(
    "text", ["\\", '"', "{", "}", ",", ", ", '","', "%b", "\x01\x02", "x" * 10**6]
)
def test_json_lines_text_with_separators_is_exported_exactly(store: Store, text: str) -> None:
    everywhere = {each.name: text for each in fields(Outcome) if each.type == str | None}
    caller = text[:1000]  # PostgreSQL has no index entry of more than 8 kB
    ask = Question(
        question=f"?{text}", system=text, caller=caller, params={text: [text]}, tags=[text]
    )
    store.upsert(ask, Outcome(status=Status.ANSWERED, **everywhere))
    [line], [document] = store.json_lines(), store.dicts()
    assert json.loads(line) == document == store.newest().to_dict()
    assert document["answer"] == document["error"] == document["model"] == text


def test_export_times_are_in_utc_in_any_server_time_zone(
    postgres: Postgres, postgres_url: str
) -> None:
    settings = Settings(database_url=postgres_url)
    store = migrated(settings)
    moments = [
        datetime(2026, 1, 2, 3, 4, 5, microsecond, tzinfo=UTC)
        for microsecond in (0, 1, 10, 120_000, 123_456, 999_999)
    ]
    moments.append(datetime(1, 1, 2, tzinfo=UTC))
    for moment in moments:
        ask = Question(question="When?", created_at=moment)
        store.upsert(ask, Outcome(status=Status.ANSWERED, answered_at=moment))
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    postgres.psql(f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'")
    postgres.psql(f"ALTER DATABASE {name} SET datestyle = 'German'")
    store.close()
    for each in (store.dicts(), map(json.loads, store.json_lines())):
        read = [(document["created_at"], document["answered_at"]) for document in each]
        assert read == [(moment.isoformat(), moment.isoformat()) for moment in moments]


def test_import_taken_id_is_renumbered_with_its_follow_ups(store: Store, other: Store) -> None:
    first = add_record(store, "one")
    add_record(store, "two", follows_id=first, idempotency_key="same")
    add_record(other, "was here", idempotency_key="same")
    moved = import_records(other, read_json_lines(export_lines(store)))
    assert (moved.added, moved.renumbered) == (2, 1)
    by_question = {record.question: record for record in other.page(limit=10)}
    assert by_question["was here"].id == 1
    assert by_question["two"].id == 2
    assert by_question["two"].follows_id == by_question["one"].id == 3
    assert by_question["two"].idempotency_key is None
    assert import_records(other, read_json_lines(export_lines(store))).skipped == 2


def test_import_taken_ids_renumber_no_other_record_of_a_large_file(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importers, "CHUNK_SIZE", 3)
    first = add_record(store, "0")
    add_record(store, "1", follows_id=first)
    for number in range(2, 8):
        add_record(store, str(number), follows_id=2 if number == 7 else None)
    add_record(other, "was here")
    moved = import_records(other, read_json_lines(export_lines(store)))
    assert (moved.added, moved.renumbered) == (8, 1)
    records = {record.question: record for record in other.page(limit=10)}
    # Only the first record gets a new id, not a later one whose id follows the first page.
    assert [records[str(number)].id for number in range(8)] == [9, 2, 3, 4, 5, 6, 7, 8]
    assert (records["1"].follows_id, records["7"].follows_id) == (9, 2)
    assert add_record(other, "next") == 10
    [thread] = [item for item in list_threads(other, Filter(), None) if item.records > 1]
    assert (thread.id, thread.question, thread.records) == (9, "0", 3)
    assert import_records(other, read_json_lines(export_lines(store))).skipped == 8


def test_import_with_a_new_id_does_not_become_the_newest_record(store: Store, other: Store) -> None:
    add_record(store, "old")
    for number in range(3):
        add_record(other, f"new {number}")
    import_records(other, read_json_lines(export_lines(store)))
    assert other.newest().question == "new 2"
    assert other.newest(4).question == "old"
    newest = [document["question"] for document in other.dicts(by_time=True)]
    assert newest == ["new 2", "new 1", "new 0", "old"]


def test_records_by_time_are_each_there_once_over_many_pages(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 2)
    moment = now()
    for seconds in (3, 1, 2, 1, 1):
        question = Question(question="q", created_at=moment + timedelta(seconds=seconds))
        store.upsert(question, Outcome(status=Status.FAILED))
    assert [document["id"] for document in store.dicts(by_time=True)] == [1, 3, 5, 4, 2]
    assert [document["id"] for document in store.dicts(by_time=True, limit=3)] == [1, 3, 5]


def test_import_after_removal_of_the_newest_uses_no_id_twice(store: Store, other: Store) -> None:
    add_record(store, "one")
    for number in range(3):
        add_record(other, f"{number}")
    other.remove(3)
    import_records(other, read_json_lines(export_lines(store)))
    assert sorted(document["id"] for document in other.dicts()) == [1, 2, 4]


def test_import_invalid_line_adds_the_records_before_it(store: Store, other: Store) -> None:
    for number in range(3):
        add_record(store, f"question {number}")
    with pytest.raises(InvalidRequest, match="Line 4 is not a record"):
        import_records(
            other, read_json_lines([*(f"{line}\n" for line in export_lines(store)), "nonsense"])
        )
    assert export_lines(other) == export_lines(store)
    # The next question gets an id that is not in use.
    assert add_record(other, "one more") == 4


def test_export_long_text_is_not_cached(store: Store) -> None:
    params = {"messages": "x" * 10_000}
    add_record(store, "long", params=params)
    for cache in (export._parse_cached, export._encode_cached):  # noqa: SLF001 - nothing else tells
        cache.cache_clear()
    [document] = store.dicts()
    assert document["params"] == params
    [line] = store.json_lines()
    assert json.loads(line) == document
    only_the_empty_list_and_object = 2
    for cache in (export._parse_cached, export._encode_cached):  # noqa: SLF001
        assert cache.cache_info().currsize == only_the_empty_list_and_object


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
def test_import_line_that_is_no_record_raises(store: Store, line: str) -> None:
    with pytest.raises(InvalidRequest):
        import_records(store, read_json_lines([line]))
    assert store.count() == 0


def test_delete_matching_removes_the_text_from_the_file(store: Store) -> None:
    add_record(store, "a-very-secret-question")
    tagged = add_record(store, "spared", tags=["t"])
    assert store.count(Filter(untagged=True)) == 1
    assert delete_matching(store, Filter(untagged=True)) == 1
    assert [record.id for record in store.page(limit=5)] == [tagged]
    assert "secret" not in on_disk(store)


def test_remove_deletes_the_text_from_the_file(store: Store) -> None:
    """Long texts and texts between other records, too; the file may keep its size."""
    for number in range(20):
        for what in ("secret", "spared"):
            text = " ".join(f"{what}{number}x{word}" for word in range(2000 if number % 3 else 3))
            add_record(store, text, tags=[f"{what}tag"], system=f"a {what}system")
    for record in store.page(limit=100):
        if record.question.startswith("secret"):
            store.remove(record.id or 0)
    if store.sqlite:
        assert "secret" in on_disk(store)
    purge_deleted(store, shrink=False)
    assert "secret" not in on_disk(store)
    assert len(store.page(limit=100, only=Filter(search="spared7x1"))) == 1
    assert store.page(limit=100, only=Filter(search="secret7x1")) == []


def on_disk(store: Store) -> str:
    """Return all bytes of the files of a SQLite history."""
    if not store.sqlite:
        return ""
    file = Path(store.url.removeprefix("sqlite:///"))
    paths = [path for path in file.parent.glob(f"{file.name}*") if path.is_file()]
    return "".join(path.read_bytes().decode("latin-1") for path in paths)


def test_change_tags_adds_once_and_removes(store: Store) -> None:
    record_id = add_record(store, "q", tags=["a", "b"])
    assert store.change_tags(record_id, ["c", "a", "c"], ["b"]) == ["a", "c"]
    assert store.get(record_id).tags == ["a", "c"]
    assert store.page(limit=5, only=Filter(tag="c"))
    assert not store.page(limit=5, only=Filter(tag="b"))


def test_stats_by_day_model_and_tag_count_records(store: Store) -> None:
    add_record(store, "one", tags=["x", "y"])
    add_record(store, "two", tags=["x"])
    store.upsert(
        Question(question="bad"),
        Outcome(status=Status.FAILED, error_kind="provider-refused", error="no"),
    )
    (day,) = stats(store, GroupBy.DAY, Filter())
    assert (day.records, day.answered, day.prompt_tokens, day.latency_ms) == (3, 2, 4, 1500)
    assert day.name == f"{now():%Y-%m-%d}"
    assert [(row.name, row.records) for row in stats(store, GroupBy.TAG, Filter())] == [
        ("x", 2),
        ("y", 1),
    ]
    by_model = {row.name: row.cost_usd for row in stats(store, GroupBy.MODEL, Filter())}
    assert by_model["(none)"] is None
    assert stats(store, GroupBy.BATCH, Filter()) == []
    assert [(row.name, row.records) for row in stats(store, GroupBy.ERROR, Filter())] == [
        ("provider-refused", 1)
    ]
    only = Filter(error_kind="provider-refused")
    assert [record.question for record in store.page(limit=5, only=only)] == ["bad"]
    assert store.count(Filter(error_kind="no")) == 0
