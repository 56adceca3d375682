"""Every form of a record has the fields of `record_fields.py`, in their order."""

import json
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qacli.batch.writer import ResultWriter
from qacli.db.batches import FinishedItem
from qacli.db.export import row_to_dict, rows_to_json_lines
from qacli.db.importers import REQUIRED_FIELDS, ImportedRecord
from qacli.db.models import QuestionAnswer
from qacli.db.records import DERIVED_COLUMNS
from qacli.domain import Outcome, Question
from qacli.record_fields import (
    FIELD_TYPES,
    FLOAT_FIELDS,
    INT_FIELDS,
    JSON_FIELDS,
    RECORD_FIELDS,
    TIME_FIELDS,
)
from qacli.recording.journal_reader import OUTCOME_FIELDS, QUESTION_FIELDS
from qacli.serializers import flat_values, record_to_dict, to_csv_line, to_json_line, to_markdown
from qacli.web.api.responses import Record

DOCUMENT = record_to_dict(Question(question="Who?\nMe?", tags=["ä"]), Outcome(answer="You."), 7)


def test_record_in_every_format_has_the_same_fields_in_order() -> None:
    row = ["{}" if name in JSON_FIELDS else None for name in RECORD_FIELDS]
    [line] = rows_to_json_lines([row])
    assert tuple(DOCUMENT) == RECORD_FIELDS
    assert tuple(flat_values(DOCUMENT)) == RECORD_FIELDS
    assert tuple(row_to_dict(tuple(row))) == RECORD_FIELDS
    assert tuple(json.loads(line)) == RECORD_FIELDS
    assert tuple(ImportedRecord.model_fields) == RECORD_FIELDS
    assert tuple(Record.model_fields) == RECORD_FIELDS


def test_columns_and_journal_have_the_same_fields() -> None:
    assert {*RECORD_FIELDS, *DERIVED_COLUMNS} == set(QuestionAnswer.model_fields)
    assert {"id", *QUESTION_FIELDS, *OUTCOME_FIELDS} == {*RECORD_FIELDS}
    assert {item.name for item in (*fields(Question), *fields(Outcome))} == {*RECORD_FIELDS} - {
        "id"
    }
    assert {
        name for name, field in ImportedRecord.model_fields.items() if field.is_required()
    } == REQUIRED_FIELDS


def test_types_of_the_columns_are_those_of_the_fields() -> None:
    for name, kind in FIELD_TYPES.items():
        if name != "id":
            assert QuestionAnswer.model_fields[name].annotation == kind, name
    assert TIME_FIELDS == ("created_at", "answered_at")
    assert JSON_FIELDS == ("params", "tags", "attachments", "details")
    assert FLOAT_FIELDS == ("cost_usd",)
    assert {"id", "latency_ms", "follows_id", "corrects_id"} <= {*INT_FIELDS}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_results_of_a_batch_are_the_lines_of_an_export(tmp_path: Path, form: str) -> None:
    file = tmp_path / f"results.{form}"
    with ResultWriter(file, form) as writer:
        writer.write([FinishedItem(0, "k", DOCUMENT)])
    if form == "parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(file)
        assert tuple(table.column_names) == RECORD_FIELDS
        assert table.to_pylist() == [flat_values(DOCUMENT)]
    elif form == "csv":
        row = to_csv_line(flat_values(DOCUMENT).values())
        assert file.read_text() == to_csv_line(RECORD_FIELDS) + row
    else:
        assert file.read_text() == to_json_line(DOCUMENT) + "\n"


def test_markdown_of_an_answer_has_its_sources_as_links() -> None:
    details = {
        "citations": ["https://a.example/(x)", "javascript:alert(1)", "https://b.example/"],
        "search_results": [{"url": "https://b.example/", "title": "B](<https://c.example>)*"}],
    }
    outcome = Outcome(answer="Yes. [1][2]", model="m", details=details)
    text = to_markdown(record_to_dict(Question(question="A"), outcome, 7))
    assert text.endswith(
        "\n\nYes. [1][2]\n\n1. [https://a.example/(x)](<https://a.example/(x)>)\n"
        r"2. [B\](\<https://c.example\>)\*](<https://b.example/>)" + "\n"
    )


def test_markdown_of_a_failed_record_names_the_error() -> None:
    outcome = Outcome(error_kind="busy", error="Too many.")
    created_at = datetime(2026, 1, 2, tzinfo=UTC)
    document = record_to_dict(Question(question="A\nB", created_at=created_at), outcome, 7)
    assert to_markdown(document) == (
        "## 7 (2026-01-02T00:00:00+00:00, asking)\n\n> A\n> B\n\n*busy: Too many.*\n"
    )
