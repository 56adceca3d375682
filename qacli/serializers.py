"""A record as data: the only list of its fields, and its forms as dict, JSON, CSV and Markdown.

A field of a record is an attribute of `Question` or `Outcome`, which gives its type, a column of
`QuestionAnswer`, and a line of `MEANINGS`. Everything else follows from these: exports, imports,
the journal, Parquet, OpenAPI and the table in docs/record.md.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from math import isfinite
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from qacli.citations import images, sources
from qacli.domain import Outcome, Question, Result, Status
from qacli.errors import error_kinds

EXPONENT_THRESHOLD = 1e16
"""The smallest number that Python writes with an exponent."""

MARKDOWN_SYNTAX = re.compile(r"[\\`*_\[\]<>&!~|]")
"""Characters that a backslash makes plain text (CommonMark 0.31, section 2.4)."""

BACKTICKS = re.compile("`+")

MEANINGS = {
    "id": "The number in `/qa/{id}`; never used twice.",
    "question": "The text of the question, byte for byte.",
    "answer": "The text of the answer; of an incomplete answer the part that arrived, or null.",
    "created_at": "The time of the question, in UTC.",
    "status": "`asking`, `answered`, `failed` or `interrupted`.",
    "error_kind": "The kind of the error, such as `provider-refused`; null without an error.",
    "error": "The provider's own message, without secrets.",
    "answered_at": "The time at which the answer was complete.",
    "latency_ms": "Milliseconds until the answer was complete.",
    "first_token_ms": "Milliseconds until the first piece of the answer.",  # nosec B105 - the key is the name of a field, not a secret
    "model": "The model that answered, as the provider names it.",
    "provider_response_id": "The id that the provider gave the answer.",
    "finish_reason": "The reason why the answer ended, such as `stop` or `length`.",
    "system": "The system prompt.",
    "params": "The requested model and the other parameters of the request.",
    "prompt_tokens": "Tokens of the request, as the provider counts them; null if unknown.",
    "completion_tokens": "Tokens of the answer, as the provider counts them; null if unknown.",
    "cached_tokens": "The part of `prompt_tokens` that came from the provider's cache.",
    "reasoning_tokens": "The part of `completion_tokens` that is reasoning.",
    "cost_usd": "US dollars; null if the price is unknown.",
    "follows_id": "The record that this one follows up.",
    "corrects_id": "The record whose answer did not fit its schema. This one asks for it again.",
    "batch_id": "The number of its batch; null without a batch.",
    "item_key": "The key of its item in the batch.",
    "idempotency_key": "The `Idempotency-Key` of the HTTP request.",
    "tags": "Its tags.",
    "uid": "An id that no other question has, in any database.",
    "attachments": "The files before the question, each with `name`, `size` and `sha256`.",
    "caller": "The name of the token of the HTTP request, which owns the record.",
    "request_id": "The id of the HTTP request, as in the server's log.",
    "reasoning": "The model's reasoning, which is not a part of the answer.",
    "details": "All other fields of the provider's response, with the provider's names.",
    "endpoint": "The provider's host; `local` for the local model.",
    "context_digest": "A digest of the messages of a request at `/v1`, to find its thread.",
    "repeats_id": "The record whose question this one asks again, perhaps with another model.",
    "title": "The name that a user has given it.",
    "rating": "The judgement of a user: 1 (bad) to 5 (good).",
}
"""The meaning of each field of a record, in the order in which every output has them."""

RECORD_FIELDS = tuple(MEANINGS)

_TYPES = {item.name: item.type for item in (*fields(Question), *fields(Outcome))}
FIELD_TYPES: dict[str, Any] = {name: _TYPES.get(name, int) for name in RECORD_FIELDS}
"""The Python type of each field."""


def _fields_of(*types: type) -> tuple[str, ...]:
    """Return the fields of one of these types, also where they can be None."""

    def kinds(annotation: Any) -> set[Any]:  # noqa: ANN401 - an annotation
        parts = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
        return {get_origin(part) or part for part in parts} - {NoneType}

    return tuple(name for name, kind in FIELD_TYPES.items() if kinds(kind) <= {*types})


TIME_FIELDS = _fields_of(datetime)
JSON_FIELDS = _fields_of(dict, list)
INT_FIELDS = _fields_of(int)
FLOAT_FIELDS = _fields_of(float)


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
