"""The cache key of a question: equal for requests that would get the same answer."""

import json
from typing import Any

_encode_sorted = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def canonical_json(
    question: str,
    system: str | None,
    params: dict[str, Any],
    attachments: list[dict[str, Any]],
    follows_id: int | None,
) -> str:
    """A question and all that shapes its answer, as one text: the same for the same request.

    From either database: PostgreSQL sorts an object's names and may give 1.0 back as 1.
    """
    return _encode_sorted(
        [question, system or None, _normalize_numbers(params), attachments, follows_id],
    )


def cache_key(text: str) -> int:
    """64 bits of a canonical text, as both databases hold them."""
    # Not at the top: a command that asks nothing need not load it.
    from hashlib import sha256

    return int.from_bytes(sha256(text.encode()).digest()[:8], "big", signed=True)


def _normalize_numbers(value: object) -> object:
    """A JSON value with whole numbers as such, where they are written with a point."""
    if isinstance(value, dict):
        return {name: _normalize_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_normalize_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
