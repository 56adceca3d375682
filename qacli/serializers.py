"""A record as data: the list of its fields, and their JSON form."""

from dataclasses import fields
from datetime import datetime
from math import isfinite
from typing import Any

from qacli.domain import Outcome, Question, Result, Status
from qacli.errors import error_kinds

EXPONENT_THRESHOLD = 1e16
"""From here on Python writes a number with an exponent."""


RECORD_FIELDS = (
    *("id", "question", "answer", "created_at", "status", "error_kind", "error"),
    *("answered_at", "latency_ms", "first_token_ms"),
    *("model", "provider_response_id", "finish_reason", "system", "params"),
    *("prompt_tokens", "completion_tokens", "cost_usd"),
    *(
        "follows_id",
        "corrects_id",
        "batch_id",
        "item_key",
        "idempotency_key",
        "tags",
        "uid",
        "attachments",
    ),
    *("caller", "request_id"),
)
"""The fields of a record, in the order in which every output has them."""


def record_to_dict(ask: Question, outcome: Outcome, record_id: int | None) -> dict[str, Any]:
    """The record as JSON has it: fields in their order, times in ISO 8601 with offset."""
    values = {**record_values(ask, outcome), "id": record_id}
    return {name: to_jsonable(values[name]) for name in RECORD_FIELDS}


def to_json_line(document: dict[str, Any]) -> str:
    """Return a record as one line of JSON, without its end."""
    from pydantic_core import to_json

    return to_json(document).decode()


def error_text(kind: str | None, error: str | None) -> str:
    """Return a record's error for a person: `kind: message`; empty where there is none."""
    return ": ".join(part for part in (kind, error) if part)


def with_error_kind(values: dict[str, Any]) -> dict[str, Any]:
    """Return values that a version of qa before `error_kind` wrote, with that field.

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
    """Its fields by name; `dataclasses.asdict` would copy every text in them."""
    return {item.name: getattr(part, item.name) for item in fields(part)}


def record_values(ask: Question, outcome: Outcome) -> dict[str, Any]:
    """All of a record but its id."""
    return {**field_values(ask), **field_values(outcome)}


def to_jsonable(value: object) -> object:
    """A field's value as JSON has it, the same from either database: objects sorted by name."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return _without_exponent(value)
    if isinstance(value, dict):
        return {name: to_jsonable(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [to_jsonable(each) for each in value]
    return value.value if isinstance(value, Status) else value


def _without_exponent(value: float) -> float:
    """The number as PostgreSQL gives it back from JSON: 1e22 in digits, and no -0."""
    if isfinite(value) and abs(value) >= EXPONENT_THRESHOLD:
        from decimal import Decimal

        return int(Decimal(repr(value)))
    return value + 0.0
