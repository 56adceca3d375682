"""Histories of real versions of `llm` are imported completely, into both databases."""

import hashlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY
from fake_provider import FakeProvider
from llm_versions import make_llm_history

from qacli.db.import_formats import Program
from qacli.db.import_source import open_import_source
from qacli.db.importers import ImportResult, import_records
from qacli.db.records import Store
from qacli.errors import InvalidRequest

OLD, NEW = "0.31", "0.36"
VERSIONS = ("0.26", OLD, "0.32", NEW)
CALL = """multiply [[times=1 tool=multiply arguments='{"a": 6, "b": 7}']]"""
QUESTIONS = [
    *("one", "two", "look", "piped", """fields [[text='{"name": "x"}']]"""),
    "The text of a fragment.\nsummarise",
    *(CALL, "Tool result of multiply: 42", "and now"),
]
FOLLOWS = [None, 1, None, None, None, None, None, 7, 8]

MakeHistory = Callable[[str], Path]


@pytest.fixture(scope="session")
def llm_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeHistory]:
    """Return a function that makes a history with a version of llm, once, and returns its path."""
    paths: dict[str, Path] = {}
    with FakeProvider(api_key=KEY) as provider:

        def history(version: str) -> Path:
            if version not in paths:
                provider.reset()
                user = tmp_path_factory.mktemp("llm")
                paths[version] = make_llm_history(version, user, provider.base_url, KEY, "whole")
            return paths[version]

        yield history


@pytest.fixture
def copy_of(llm_history: MakeHistory, tmp_path: Path) -> MakeHistory:
    """Return a function that copies the database of a version, so that a test can change it."""

    def copy(version: str) -> Path:
        return Path(shutil.copy(llm_history(version), tmp_path / "logs.db"))

    return copy


def import_llm(store: Store, path: Path) -> tuple[ImportResult, Counter[str]]:
    with open_import_source(str(path)) as source:
        assert source.format is Program.LLM
        return import_records(store, source.documents), source.omitted


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def documents(store: Store) -> list[dict[str, Any]]:
    return list(store.dicts())


@pytest.mark.parametrize("version", VERSIONS)
def test_import_llm_history_is_complete_and_added_once(
    store: Store, llm_history: MakeHistory, version: str
) -> None:
    path = llm_history(version)
    moved, omitted = import_llm(store, path)
    assert moved == ImportResult(added=9)
    assert omitted["contents of attachments"] == 1
    assert omitted["raw provider responses"] == 9
    records = documents(store)
    assert [each["question"] for each in records] == QUESTIONS
    assert [each["follows_id"] for each in records] == FOLLOWS
    assert {each["status"] for each in records} == {"answered"}
    one, two, look, piped, shaped, summary, call, result, _ = records
    assert (one["answer"], one["system"]) == ("Answer to: one", "Be brief.")
    assert one["params"] == {"model": "fake", "temperature": 0.5}
    assert (one["prompt_tokens"], one["completion_tokens"]) == (3, 3)
    assert one["provider_response_id"].startswith("chatcmpl-")
    assert one["finish_reason"] == "stop"
    assert one["latency_ms"] is not None
    assert one["created_at"] < two["created_at"]
    assert one["tags"] == ["llm"]
    image = b"\x89PNG\r\n\x1a\n"
    assert [Path(each["name"]).name for each in look["attachments"]] == ["image.png"]
    assert look["attachments"][0]["sha256"] == hashlib.sha256(image + b"file").hexdigest()
    assert piped["attachments"] == [
        {
            "name": "attachment-1.png",
            "size": len(image + b"piped"),
            "sha256": hashlib.sha256(image + b"piped").hexdigest(),
        }
    ]
    schema = shaped["params"]["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"name": {"type": "string"}}
    assert shaped["answer"] == '{"name": "x"}'
    assert summary["system"] == "The text of a fragment."
    assert call["answer"] == 'Tool call: multiply({"a": 6, "b": 7})'
    assert call["finish_reason"] == "tool_calls"
    [tool] = call["params"]["tools"]
    assert tool["function"]["name"] == "multiply"
    assert result["answer"] == f"Answer to: {CALL}"
    before = path.read_bytes()
    again, _ = import_llm(store, path)
    assert (again.added, again.skipped) == (0, 9)
    assert documents(store) == records
    assert path.read_bytes() == before


@pytest.fixture
def both_layouts(copy_of: MakeHistory, provider: FakeProvider) -> Path:
    """A history of an old version to which a new version has added."""
    path = copy_of(OLD)
    make_llm_history(NEW, path.parent, provider.base_url, KEY, "continued")
    return path


def test_import_llm_history_of_both_layouts_has_each_exchange_once(
    store: Store, llm_history: MakeHistory, both_layouts: Path
) -> None:
    assert import_llm(store, llm_history(OLD))[0].added == 9
    moved, _ = import_llm(store, both_layouts)
    assert (moved.added, moved.skipped) == (2, 9)
    assert import_llm(store, both_layouts)[0].added == 0
    *_, later, new = documents(store)
    assert (later["question"], later["follows_id"]) == ("later", 9)
    assert (new["question"], new["follows_id"]) == ("a new one", None)
    # llm can write a response to both tables, with the same id.
    columns = "id, model, prompt, response, conversation_id, datetime_utc"
    execute(
        both_layouts,
        f"INSERT INTO responses ({columns}) SELECT id, model, 'copy', 'copy', thread_id,"  # noqa: S608 - our own names
        " datetime_utc FROM turns",
    )
    moved, _ = import_llm(store, both_layouts)
    assert (moved.added, moved.skipped) == (0, 11)


def test_import_llm_into_used_history_points_follow_ups_to_new_ids(
    store: Store, llm_history: MakeHistory, other_question: int
) -> None:
    assert import_llm(store, llm_history(NEW))[0].added == 9
    records = {each["question"]: each for each in documents(store)}
    assert records["two"]["follows_id"] == records["one"]["id"] != other_question
    assert records["and now"]["follows_id"] == records["Tool result of multiply: 42"]["id"]


@pytest.fixture
def other_question(store: Store) -> int:
    """The id of a record that was in the history before the import."""
    from qacli.domain import Outcome, Question, Status

    return store.upsert(Question(question="before"), Outcome(status=Status.ANSWERED, answer="x"))


def test_import_llm_forked_thread_follows_its_fork_message(
    store: Store, copy_of: MakeHistory
) -> None:
    path = copy_of(NEW)
    turns = "SELECT id, thread_id, tip_message_hash FROM turns ORDER BY id"
    with closing(sqlite3.connect(path)) as database:
        [(_, thread, tip), *_] = database.execute(turns).fetchall()
    message = "INSERT INTO messages (hash, parent_hash, role) VALUES"
    part = "INSERT INTO parts (message_hash, position, type, text) VALUES"
    execute(
        path,
        f"INSERT INTO threads (id, tip_message_hash, forked_from) VALUES ('f', 'a', '{thread}')",  # noqa: S608
        f"{message} ('q', '{tip}', 'user'), ('a', 'q', 'assistant')",
        f"{part} ('q', 0, 'text', 'fork'), ('a', 0, 'text', 'forked'), ('a', 1, 'reasoning', 'r')",
        # Another thread has the same messages.
        "INSERT INTO turns (id, thread_id, parent_message_hash, tip_message_hash, model,"
        " token_details, datetime_utc) VALUES"
        """ ('z1', 'f', 'q', 'a', 'fake', '{"cached": 1}', '2030-01-01T00:00:00'),"""
        " ('z2', 'g', 'q', 'a', 'fake', NULL, '2030-01-02T00:00:00')",
    )
    _, omitted = import_llm(store, path)
    assert (omitted["reasoning of answers"], omitted["token details"]) == (2, 1)
    *_, fork, chance = documents(store)
    assert (fork["question"], fork["answer"], fork["follows_id"]) == ("fork", "forked", 1)
    assert fork["system"] == "Be brief."
    assert (chance["question"], chance["follows_id"]) == ("fork", None)


def test_import_llm_unreadable_exchanges_are_counted(store: Store, copy_of: MakeHistory) -> None:
    path = copy_of(NEW)
    turn = "SELECT id FROM turns ORDER BY id LIMIT 1"
    execute(
        path,
        f"UPDATE turns SET datetime_utc = 'never' WHERE id = ({turn} OFFSET 2)",  # noqa: S608 - ours
        f"UPDATE turns SET tip_message_hash = 'gone' WHERE id = ({turn} OFFSET 3)",  # noqa: S608 - ours
        f"UPDATE turns SET options_json = '[' WHERE id = ({turn} OFFSET 4)",  # noqa: S608 - ours
    )
    moved, omitted = import_llm(store, path)
    assert moved.added == 7
    assert omitted["exchanges without a readable time"] == 1
    assert omitted["exchanges without their messages"] == 1


def test_import_llm_unstorable_text_is_replaced(store: Store, copy_of: MakeHistory) -> None:
    path = copy_of(OLD)
    execute(
        path,
        "UPDATE responses SET prompt = 'odd' || char(0), response = CAST(x'6fff' AS TEXT),"
        """ options_json = '{"stop": "\\u0000", "n": NaN}', input_tokens = -1""",
    )
    assert import_llm(store, path)[0].added == 9
    first = documents(store)[0]
    assert (first["question"], first["answer"]) == ("odd\ufffd", "o\ufffd")
    assert first["params"] == {"model": "fake", "stop": "\ufffd", "n": None}
    assert first["prompt_tokens"] is None


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_import_llm_database_in_use_is_read_whole_and_unchanged(
    store: Store, copy_of: MakeHistory, mode: str
) -> None:
    path = copy_of(OLD)
    writer = sqlite3.connect(path)
    with closing(writer):
        writer.execute(f"PRAGMA journal_mode={mode}")
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("UPDATE responses SET prompt = 'newest' WHERE prompt = 'one'")
        writer.commit()
        before = path.read_bytes()
        with open_import_source(str(path)) as source:
            first = next(source.documents)
            # llm can write while qa reads.
            writer.execute("UPDATE responses SET model = 'other'")
            writer.rollback()
            moved = import_records(store, [first, *source.documents])
        assert moved.added == 9
        assert documents(store)[0]["question"] == "newest"
        assert path.read_bytes() == before


def test_import_llm_closed_database_in_wal_mode_leaves_no_files(
    store: Store, copy_of: MakeHistory
) -> None:
    path = copy_of(OLD)
    execute(path, "PRAGMA journal_mode=wal")
    files = sorted(path.parent.iterdir())
    assert import_llm(store, path)[0].added == 9
    assert sorted(path.parent.iterdir()) == files


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("damage", ["truncated", "overwritten", "cut in the header"])
def test_import_damaged_llm_database_adds_nothing(
    store: Store, copy_of: MakeHistory, damage: str, version: str
) -> None:
    path = copy_of(version)
    data = path.read_bytes()
    if damage == "overwritten":
        middle = len(data) // 2
        path.write_bytes(data[:4096] + b"\xaa" * (middle - 4096) + data[middle:])
    else:
        path.write_bytes(data[: len(data) // 2 if damage == "truncated" else 50])
    with pytest.raises(InvalidRequest):
        import_llm(store, path)
    assert store.count() == 0
