"""`qa import` recognises a file by its content."""

import csv
import gzip
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Invoke, migrated

from qacli.config.settings import Settings
from qacli.db.import_formats import CSV, JSONL, Program
from qacli.db.import_source import open_import_source
from qacli.db.importers import ImportResult, import_records
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status, now
from qacli.errors import InvalidRequest

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def source(home: Path) -> Iterator[Store]:
    """A SQLite history with three records: a follow-up, unusual texts, and a failed one."""
    source = migrated(Settings(data_dir=home / "source"))
    answered = Outcome(
        status=Status.ANSWERED,
        answer="1,\n\"2\"\r\n'3' 世界",
        answered_at=now(),
        latency_ms=5,
        model="m",
        cost_usd=1.5e-7,
    )
    params = {"model": "m", "stop": ["\n", '"'], "temperature": 0.5}
    attachment = {"name": "f.txt", "size": 1, "sha256": "0" * 64}
    first = source.upsert(
        Question(question="a;b,\tc", params=params, tags=["t"], attachments=[attachment]), answered
    )
    source.upsert(Question(question="x" * 200_000, follows_id=first, system="s"), answered)
    source.upsert(Question(question="bad"), Outcome(status=Status.FAILED, error="no-answer: No"))
    yield source
    source.close()


def as_jsonl(source: Store) -> bytes:
    return "".join(f"{line}\n" for line in source.json_lines()).encode()


def as_csv(source: Store) -> bytes:
    text = io.StringIO(newline="")
    rows = list(source.dicts())
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        nested = {name: json.dumps(row[name]) for name in ("params", "tags", "attachments")}
        writer.writerow({**row, **nested})
    return text.getvalue().encode()


def as_database(source: Store) -> bytes:
    """Return the bytes of the file of a closed history, whose write-ahead log is empty."""
    source.close()
    return Path(source.url.removeprefix("sqlite:///")).read_bytes()


def with_crlf(data: bytes) -> bytes:
    return BOM + data.replace(b"}\n", b"}\r\n")


FILES: dict[str, tuple[Callable[[Store], bytes], str]] = {
    "jsonl": (as_jsonl, JSONL),
    "jsonl with BOM and CRLF": (lambda source: with_crlf(as_jsonl(source)), JSONL),
    "jsonl.gz": (lambda source: gzip.compress(as_jsonl(source)), JSONL),
    "jsonl.gz with BOM and CRLF": (
        lambda source: gzip.compress(with_crlf(as_jsonl(source))),
        JSONL,
    ),
    "csv": (as_csv, CSV),
    "csv with BOM": (lambda source: BOM + as_csv(source), CSV),
    "csv.gz": (lambda source: gzip.compress(as_csv(source)), CSV),
    "history": (as_database, Program.QA),
    "history.gz": (lambda source: gzip.compress(as_database(source)), Program.QA),
}


@pytest.mark.parametrize("name", FILES)
def test_import_file_of_any_format_has_all_records(
    store: Store, source: Store, home: Path, name: str
) -> None:
    make, form = FILES[name]
    expected = list(source.dicts())
    file = home / "file"
    file.write_bytes(make(source))
    for counts in (ImportResult(added=3), ImportResult(skipped=3)):
        with open_import_source(str(file)) as found:
            assert found.format is form
            assert import_records(store, found.documents) == counts
            assert not found.omitted
    assert list(store.dicts()) == expected


def test_import_csv_with_crlf_line_ends_is_read(store: Store, home: Path) -> None:
    file = home / "file.csv"
    file.write_bytes(
        BOM + b"question,answer,created_at,status,uid\r\n"
        b'one,"1\r\n2",2026-01-01T00:00:00Z,answered,u\r\n'
    )
    with open_import_source(str(file)) as found:
        assert import_records(store, found.documents).added == 1
    assert store.newest().answer == "1\r\n2"


def test_import_history_of_another_version_names_skipped_columns(
    store: Store, source: Store, home: Path
) -> None:
    file = home / "history.db"
    file.write_bytes(as_database(source))
    with closing(sqlite3.connect(file)) as database:
        database.execute("ALTER TABLE question_answer ADD COLUMN mood TEXT")
        database.execute("UPDATE question_answer SET mood = 'good' WHERE id < 3")
        database.execute("DROP INDEX ix_question_answer_request_id")
        database.execute("ALTER TABLE question_answer DROP COLUMN request_id")
        database.commit()
    with open_import_source(str(file)) as found:
        assert import_records(store, found.documents).added == 3
    assert found.omitted == {"values of mood": 2}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"nonsense", "format"),
        (b"[1]", "format"),
        (b"a,b\n1,2\n", "format"),
        ("id,question".encode("utf-16"), "format"),
        (b"\x89PNG\r\n\x1a\n\0\0", "format"),
        (gzip.compress(b"nonsense", mtime=0), "format"),
        (gzip.compress(b'{"a": 1}' * 1000, mtime=0)[:-20], "unpacked"),
        (b"\x1f\x8bnot gzip", "unpacked"),
        (b'{"a": "\xff"}\n', "UTF-8"),
        (b'{"a": 1}\n', "Line 1 is not a record"),
        (b"question,created_at,status,uid\n1,2,3,4\n", "row that ends at line 2"),
        (b'question,created_at,status,uid\n"1', "not CSV"),
        (b"question,created_at,status,uid\n1,2,3,4,5\n", "row that ends at line 2"),
        (b"SQLite format 3\0", "not a SQLite database"),
        (b"SQLite format 3\0" + bytes(200), "cannot be read"),
    ],
)
def test_import_unknown_or_broken_file_is_refused(
    store: Store, home: Path, data: bytes, reason: str
) -> None:
    file = home / "file"
    file.write_bytes(data)
    with pytest.raises(InvalidRequest, match=reason), open_import_source(str(file)) as found:
        import_records(store, found.documents)
    assert store.count() == 0


def test_import_sqlite_database_of_another_program_is_refused(home: Path) -> None:
    with closing(sqlite3.connect(home / "other.db")) as database:
        database.execute("CREATE TABLE responses (id TEXT)")
    with pytest.raises(InvalidRequest, match="another program"), open_import_source("other.db"):
        pass


@pytest.mark.parametrize("program", ["qa", "aichat"])
def test_import_from_a_program_of_an_empty_file_adds_nothing(
    invoke: Invoke, home: Path, program: str
) -> None:
    (home / "empty").write_text("\n")
    done = invoke("import", "empty", "--from", program)
    assert (done.code, done.out) == (0, "Added: 0 records; 0 were there.\n")


def test_import_empty_export_adds_nothing(store: Store, home: Path) -> None:
    (home / "empty").touch()
    with open_import_source("empty") as found:
        assert import_records(store, found.documents) == ImportResult()


OLD_LLM = (
    "CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT,"
    " prompt_json TEXT, options_json TEXT, response TEXT, response_json TEXT,"
    " conversation_id TEXT, duration_ms INTEGER, datetime_utc TEXT)"
)
"""The only table of a database of llm 0.5."""


@pytest.fixture
def llm_database(home: Path) -> Path:
    path = home / "logs.db"
    rows = [
        ("a", "gpt", "one", None, None, "{}", "1", '{"id": "r"}', "c", 10, "2025-01-01T00:00:00"),
        ("b", "gpt", "two", "s", None, None, "", None, "c", None, "2025-01-02T00:00:00+00:00"),
    ]
    with closing(sqlite3.connect(path)) as database:
        database.execute(OLD_LLM)
        database.executemany("INSERT INTO responses VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows)
        database.commit()
    return path


def test_import_command_reports_added_and_omitted_records(
    invoke: Invoke, llm_database: Path
) -> None:
    left_out = {"raw provider responses": 1}
    done = invoke("import", "logs.db")
    assert done.code == 0
    assert done.out.splitlines() == [
        "Added: 2 records; 0 were there.",
        "Left out, because a record has no field for it: raw provider responses (1).",
    ]
    again = invoke("import", "-", "--from", "llm", "--json", input=llm_database.read_bytes())
    counts = {"added": 0, "there": 2, "renumbered": 0}
    assert json.loads(again.out) == {**counts, "format": "llm", "left_out": left_out}
    one, two = (json.loads(line) for line in invoke("export").out.splitlines())
    assert (one["question"], one["answer"], one["provider_response_id"]) == ("one", "1", "r")
    assert (two["status"], two["follows_id"], two["system"]) == ("failed", 1, "s")


def test_import_command_file_not_recognised_exits_with_2(
    invoke: Invoke, llm_database: Path
) -> None:
    Path("notes.txt").write_text("Buy milk")
    for arguments, error in (
        (["notes.txt"], "qa: The format of notes.txt is not known."),
        (["--from", "qa", str(llm_database)], "is a logs database of llm, and --from is qa."),
        (["--from", "llm", "notes.txt"], "The format of notes.txt is not known."),
        (["."], "qa: . cannot be read: Is a directory."),
    ):
        done = invoke("import", *arguments)
        assert (done.code, done.out) == (2, "")
        assert error in done.err


def test_import_command_that_fails_midway_reports_added_records(invoke: Invoke) -> None:
    record = {"question": "q", "created_at": "2026-01-01T00:00Z", "status": "failed", "uid": "u"}
    done = invoke("import", "-", input=f"{json.dumps(record)}\nnonsense\n")
    assert (done.code, done.out) == (2, "Added: 1 record; 0 were there.\n")
    assert done.err.startswith("qa: Line 2 is not a record: ")


@pytest.mark.parametrize("end", ["cut", "not UTF-8"])
def test_import_file_that_ends_early_counts_the_records_before(
    store: Store, home: Path, end: str
) -> None:
    lines = [
        json.dumps(
            {"question": str(n), "created_at": f"{now()}", "status": "failed", "uid": f"{n}"}
        )
        for n in range(1500)
    ]
    data = "\n".join(lines).encode()
    file = home / "file"
    file.write_bytes(gzip.compress(data)[:-100] if end == "cut" else data + b"\n\xff")
    moved = ImportResult()
    with open_import_source(str(file)) as found, pytest.raises(InvalidRequest):
        import_records(store, found.documents, moved)
    assert moved.added == store.count() > 1000
