"""A record as data: the list of its fields, and their JSON form."""

from dataclasses import fields
from datetime import datetime
from math import isfinite
from typing import Any

from qacli.domain import Outcome, Question, Result, Status

EXPONENT_THRESHOLD = 1e16
"""From here on Python writes a number with an exponent."""


RECORD_FIELDS = (
    *("id", "question", "answer", "created_at", "status", "error"),
    *("answered_at", "latency_ms", "first_token_ms"),
    *("model", "provider_response_id", "finish_reason", "system", "params"),
    *("prompt_tokens", "completion_tokens", "cost_usd"),
    *("follows_id", "batch_id", "item_key", "idempotency_key", "tags", "uid", "attachments"),
    *("caller", "request_id"),
)
"""The fields of a record, in the order in which every output has them."""


def record_to_dict(ask: Question, outcome: Outcome, record_id: int | None) -> dict[str, Any]:
    """The record as JSON has it: fields in their order, times in ISO 8601 with offset."""
    values = {**record_values(ask, outcome), "id": record_id}
    return {name: to_jsonable(values[name]) for name in RECORD_FIELDS}


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
