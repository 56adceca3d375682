"""Read the exports of qa, JSON Lines and CSV, and SQLite histories of any version."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from qacli.db.chat_records import parse_time
from qacli.db.importers import REQUIRED_FIELDS, ImportedRecord
from qacli.db.sqlite_file import Row, SqliteFile
from qacli.errors import InvalidRequest
from qacli.record_fields import JSON_FIELDS, TIME_FIELDS

PAGE = 500
MAX_CELL_LENGTH = 2**31 - 1
SHARED = ("shared_system", "shared_params")
DERIVED_COLUMNS = {"fingerprint", "system_id", "params_id", *SHARED}
"""Columns of a history that are computed from the others, or are parts of them."""

WITH_SHARED_VALUES = (
    "SELECT question_answer.*, system.value AS shared_system, params.value AS shared_params "
    "FROM question_answer LEFT JOIN shared_value AS system ON system.id = system_id "
    "LEFT JOIN shared_value AS params ON params.id = params_id "
    "WHERE ?1 IS NULL OR question_answer.id > ?1 ORDER BY question_answer.id LIMIT ?2"
)


def read_json_lines(lines: Iterable[str]) -> Iterator[ImportedRecord]:
    """Yield the records of a JSON Lines export.

    Raises:
        InvalidRequest: A line is not a record; the message has its number and the reason.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield ImportedRecord.model_validate_json(line)
        except ValidationError as error:
            raise _not_a_record(f"Line {number}", error) from None


def read_csv(lines: IO[str]) -> Iterator[ImportedRecord]:
    """Yield the records of a CSV export.

    CSV has no difference between an empty text and null: an empty cell is the field's default.
    """
    csv.field_size_limit(MAX_CELL_LENGTH)
    reader = csv.DictReader(lines, strict=True)
    try:
        for row in reader:
            yield _of_cells(row, f"The row that ends at line {reader.line_num}")
    except csv.Error as error:
        raise InvalidRequest(
            f"Line {reader.line_num} is not CSV: {error}.",
            "The records before it were added; correct it and import again.",
        ) from None


def _of_cells(row: dict[str, Any], where: str) -> ImportedRecord:
    fields = {
        name: _json(value) if name in JSON_FIELDS else value
        for name, value in row.items()
        if value or name in REQUIRED_FIELDS
    }
    try:
        return ImportedRecord.model_validate(fields)
    except ValidationError as error:
        raise _not_a_record(where, error) from None


def read_history(file: SqliteFile, omitted: Counter[str]) -> Iterator[ImportedRecord]:
    """Yield the records of a SQLite history of qa with a schema of any version."""
    file.check("question_answer")
    if "batch_item" in file.tables:
        query = "SELECT count(*) AS number FROM batch_item WHERE state IN ('waiting', 'claimed')"
        if number := file.rows(query)[0]["number"]:
            omitted["questions of batches without an answer"] += number
    last_id: object = None
    query = "SELECT * FROM question_answer WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2"
    if "shared_value" in file.tables:
        query = WITH_SHARED_VALUES
    while rows := file.rows(query, last_id, PAGE):
        for row in rows:
            for name in row.keys() - ImportedRecord.model_fields.keys() - DERIVED_COLUMNS:
                if row[name] not in {None, "", "[]", "{}"}:
                    omitted[f"values of {name}"] += 1
            try:
                yield ImportedRecord.model_validate(_of_row(row))
            except ValidationError as error:
                raise _not_a_record(f"Record {row['id']}", error) from None
        last_id = rows[-1]["id"]


def _of_row(row: Row) -> dict[str, Any]:
    """Return the fields of a record in a row of a history."""
    values = {name: row[name] for name in row if name in ImportedRecord.model_fields}
    for name in TIME_FIELDS:
        values[name] = parse_time(values.get(name))
    for name in JSON_FIELDS:
        values[name] = _json(values.get(name)) or _default(name)
    if row.get("shared_system") is not None:
        values["system"] = row["shared_system"]
    own, shared = values["params"], _json(row.get("shared_params"))
    if isinstance(own, dict) and isinstance(shared, dict):
        values["params"] = {**own, **shared}
    return values


def _default(name: str) -> object:
    default = ImportedRecord.model_fields[name].get_default(call_default_factory=True)
    return None if default is PydanticUndefined else default


def _json(text: object) -> object:
    """Return the value of a JSON text; any other value is returned as it is, and checked later."""
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text


def _not_a_record(where: str, error: ValidationError) -> InvalidRequest:
    """Return the error for a line or a row that is not a record.

    Args:
        where: The place in the file, at the beginning of a sentence.
        error: The reason.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return InvalidRequest(
        f"{where} is not a record: {field + ': ' if field else ''}{first['msg']}.",
        "The records before it were added; correct it and import again.",
    )
