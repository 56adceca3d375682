"""The cache key of a question: equal for equal requests."""

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
    """Return a question and everything that affects its answer as one JSON text.

    The text does not depend on the database, although PostgreSQL sorts the names in JSON objects
    and may return 1.0 as 1.
    """
    return _encode_sorted(
        [question, system or None, _normalize_numbers(params), attachments, follows_id],
    )


def cache_key(text: str) -> int:
    """Return 64 bits of the SHA-256 of a canonical text, as a signed integer."""
    # Imported here because few commands need it.
    from hashlib import sha256

    return int.from_bytes(sha256(text.encode()).digest()[:8], "big", signed=True)


def _normalize_numbers(value: object) -> object:
    """Return a JSON value in which floats without a fraction are integers."""
    if isinstance(value, dict):
        return {name: _normalize_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_normalize_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
