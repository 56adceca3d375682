"""The fields `error_kind` and `corrects_id` in files of older versions."""

import csv
import io
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from qacli.cli import app
from qacli.config.settings import Settings
from qacli.db import migrate
from qacli.db.import_source import open_import_source
from qacli.db.importers import ImportedRecord, import_records
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.recording.journal_format import outcome_entry, question_entry
from qacli.recording.journal_reader import parse_journal
from qacli.serializers import with_error_kind

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = {
    "id": 1,
    "question": "Who?",
    "created_at": "2026-01-02T03:04:05+00:00",
    "status": "failed",
    "error": "provider-refused: The provider answered 400: No.",
    "uid": "u1",
}


@pytest.mark.parametrize(
    ("values", "kind", "error"),
    [
        ({"error": "busy: Too many."}, "busy", "Too many."),
        ({"error": "busy: Too: many."}, "busy", "Too: many."),
        ({"error": "note: Too many."}, None, "note: Too many."),
        ({"error": "busy"}, None, "busy"),
        ({"error": None}, None, None),
        ({"error_kind": None, "error": "busy: Too many."}, None, "busy: Too many."),
        ({}, None, None),
    ],
)
def test_with_error_kind_splits_only_known_kinds_of_old_versions(
    values: dict[str, Any], kind: str | None, error: str | None
) -> None:
    result = with_error_kind(values)
    assert (result.get("error_kind"), result.get("error")) == (kind, error)


def test_journal_of_an_older_version_is_read_with_its_error_kind() -> None:
    question = Question(question="Who?")
    outcome = Outcome(status=Status.FAILED, error="provider-timeout: Nothing came.")
    lines = [question_entry(question), outcome_entry(question.uid, outcome)]
    del lines[0]["ask"]["corrects_id"]
    del lines[1]["outcome"]["error_kind"]
    data = b"".join(json.dumps(line, default=datetime.isoformat).encode() + b"\n" for line in lines)
    contents = parse_journal(data, NOW)
    assert contents.problems == []
    read = contents.entries[0].outcome()
    assert (read.error_kind, read.error) == ("provider-timeout", "Nothing came.")


def test_journal_keeps_both_fields() -> None:
    question = Question(question="Who?", follows_id=3, corrects_id=3)
    outcome = Outcome(status=Status.FAILED, error_kind="busy", error="busy: Too many.")
    lines = [question_entry(question), outcome_entry(question.uid, outcome)]
    data = b"".join(json.dumps(line, default=datetime.isoformat).encode() + b"\n" for line in lines)
    [entry] = parse_journal(data, NOW).entries
    assert (entry.question, entry.outcome()) == (question, outcome)


def as_csv(record: dict[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, record)
    writer.writeheader()
    writer.writerow(record)
    return text.getvalue()


@pytest.mark.parametrize("form", ["jsonl", "csv", "db"])
def test_import_of_an_older_export_has_the_kind_of_its_error(
    store: Store, tmp_path: Path, form: str
) -> None:
    file = tmp_path / f"old.{form}"
    if form == "db":
        write_old_history(file)
    else:
        file.write_text(json.dumps(OLD) if form == "jsonl" else as_csv(OLD))
    with open_import_source(str(file)) as source:
        assert import_records(store, source.documents).added == 1
    record = store.get(1)
    assert record.error_kind == "provider-refused"
    assert record.error == "The provider answered 400: No."


def write_old_history(file: Path) -> None:
    old = Store(Settings(database_url=f"sqlite:///{file}").database)
    with old.migrating() as connection:
        migrate.upgrade(connection, "0006")
    old.close()
    row = {**OLD, "params": "{}", "tags": "[]", "created_at": "2026-01-02 03:04:05"}
    with sqlite3.connect(file) as connection:
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        connection.execute(f"INSERT INTO question_answer ({names}) VALUES ({marks})", row)  # noqa: S608 - names of columns
    connection.close()


def test_import_with_a_taken_id_moves_corrects_id_along(store: Store) -> None:
    store.upsert(Question(question="Here first"), Outcome())
    first = {**OLD, "uid": "first"}
    second = {**OLD, "id": 2, "uid": "second", "follows_id": 1, "corrects_id": 1}
    import_records(store, map(ImportedRecord.model_validate, [first, second]))
    moved = store.by_uid("first")
    correction = store.by_uid("second")
    assert moved is not None
    assert correction is not None
    assert correction.corrects_id == correction.follows_id == moved.id != 1


def test_list_and_stats_filter_by_error_kind(
    store: Store,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database)
    for kind in ("busy", "busy", "provider-refused", None):
        error = f"No {kind}." if kind else None
        outcome = Outcome(status=Status.FAILED, error_kind=kind, error=error)
        store.upsert(Question(question="Who?"), outcome)
    assert app.run(["list", "--error", "busy", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [(record["id"], record["error"]) for record in records] == [
        (1, "No busy."),
        (2, "No busy."),
    ]
    assert app.run(["stats", "--by", "error", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["records"]) for row in rows] == [("busy", 2), ("provider-refused", 1)]
    assert app.run(["show", "1"]) == 0
    assert "busy: No busy." in capsys.readouterr().out
