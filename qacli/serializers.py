"""A record as dict, JSON, CSV and Markdown. Its fields are those of `qacli.record_fields`."""

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from math import isfinite
from typing import Any

from qacli.citations import images, sources
from qacli.domain import Outcome, Question, Result, Status
from qacli.errors import error_kinds
from qacli.record_fields import JSON_FIELDS, RECORD_FIELDS

EXPONENT_THRESHOLD = 1e16
"""The smallest number that Python writes with an exponent."""

MARKDOWN_SYNTAX = re.compile(r"[\\`*_\[\]<>&!~|]")
"""Characters that a backslash makes plain text (CommonMark 0.31, section 2.4)."""

BACKTICKS = re.compile("`+")


def record_to_dict(question: Question, outcome: Outcome, record_id: int | None) -> dict[str, Any]:
    """Return the record as JSON has it: fields in their order, times in ISO 8601 with offset."""
    values = {**record_values(question, outcome), "id": record_id}
    return {name: to_jsonable(values[name]) for name in RECORD_FIELDS}


def to_json_line(document: dict[str, Any]) -> str:
    """Return a record as one line of JSON, without its end."""
    from pydantic_core import to_json

    return to_json(document).decode()


def flat_values(document: dict[str, Any]) -> dict[str, Any]:
    """Return a record with JSON texts for its objects and lists, for a cell of a table."""
    return {
        name: json.dumps(value, ensure_ascii=False) if name in JSON_FIELDS else value
        for name, value in document.items()
    }


def to_csv_line(values: Iterable[object], delimiter: str = ",") -> str:
    """Return values as one row of CSV, with its end; a text in it may have line ends."""
    import csv
    from io import StringIO

    row = StringIO()
    # The writer quotes only those line ends in a text whose characters are in its own.
    csv.writer(row, delimiter=delimiter, lineterminator="\r\n").writerow(values)
    return row.getvalue().removesuffix("\r\n") + "\n"


def to_markdown(document: dict[str, Any]) -> str:
    """Return a record as Markdown: the question as a quotation, the sources as links.

    Reasoning and tool calls are folded (`<details>`), and images are data URLs.
    """
    quoted = "\n".join(f"> {line}" for line in document["question"].splitlines())
    facts = f"{document['created_at']}, {document['model'] or document['status']}"
    error = error_text(document["error_kind"], document["error"])
    body = document["answer"] or f"*{error}*"
    parts = [f"## {document['id']} ({facts})", quoted, body]
    details = document["details"]
    if document["reasoning"]:
        parts.insert(2, _folded("Reasoning", document["reasoning"]))
    if calls := details.get("tool_calls"):
        parts.append(_folded("Tool calls", json.dumps(calls, ensure_ascii=False, indent=2)))
    if links := _source_links(details):
        parts.append("\n".join(links))
    for number, image in enumerate(images(details), 1):
        if address := image.data_url or image.url:
            parts.append(f"![Image {number}](<{address}>)")
    return "\n\n".join(parts) + "\n"


def _folded(summary: str, text: str) -> str:
    """Return a text as a code block that is folded; its fence is longer than any in the text."""
    fence = "`" * max(3, *(len(run) + 1 for run in BACKTICKS.findall(text)), 0)
    block = f"{fence}\n{text}\n{fence}"
    return f"<details><summary>{summary}</summary>\n\n{block}\n\n</details>"


def _source_links(details: dict[str, Any]) -> list[str]:
    """Return the sources of an answer as lines of a numbered list of links."""
    lines = []
    for number, source in enumerate(sources(details), 1):
        text = MARKDOWN_SYNTAX.sub(lambda match: f"\\{match[0]}", source.title or source.url)
        lines.append(f"{number}. [{text}](<{source.url}>)")
    return lines


def error_text(kind: str | None, error: str | None) -> str:
    """Return a record's error for a person, `kind: message`; empty if there is no error."""
    return ": ".join(part for part in (kind, error) if part)


def reasoning_length(reasoning: str, tokens: int | None) -> str:
    """Return the length of reasoning for a person: its tokens where known, else its characters."""
    return f"{len(reasoning):,} characters" if tokens is None else f"{tokens:,} tokens"


def with_error_kind(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with `error_kind`, which older versions wrote at the start of `error`.

    Such a version wrote the kind before the message: `provider-refused: The provider ...`.

    Args:
        values: Fields of a record, from a journal or an export.
    """
    kind, colon, message = str(values.get("error") or "").partition(": ")
    if "error_kind" in values or not colon or kind not in error_kinds():
        return values
    return {**values, "error_kind": kind, "error": message}


def result_to_dict(result: Result) -> dict[str, Any]:
    """Return the record of a result; see `record_to_dict`."""
    return record_to_dict(result.question, result.outcome, result.record_id)


def field_values(part: Question | Outcome) -> dict[str, Any]:
    """Return the fields by name, without the deep copy of `dataclasses.asdict`."""
    return {item.name: getattr(part, item.name) for item in fields(part)}


def record_values(question: Question, outcome: Outcome) -> dict[str, Any]:
    """Return all fields of a record but its id."""
    return {**field_values(question), **field_values(outcome)}


def to_jsonable(value: object) -> object:
    """Return a value as JSON has it, the same from either database: objects sorted by name."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return _without_exponent(value)
    if isinstance(value, dict):
        return {name: to_jsonable(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [to_jsonable(item) for item in value]
    return value.value if isinstance(value, Status) else value


def _without_exponent(value: float) -> float:
    """Return the number as PostgreSQL returns it from JSON: 1e22 in digits, and no -0."""
    if isfinite(value) and abs(value) >= EXPONENT_THRESHOLD:
        from decimal import Decimal

        return int(Decimal(repr(value)))
    return value + 0.0
