"""Hooks for schemathesis with facts that the document lacks; see test_openapi.py."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import schemathesis

KEY = "Idempotency-Key"
MAX_KEY = 255


@schemathesis.deserializer("application/x-ndjson")
def lines(_context: Any, response: Any) -> list[Any]:
    """Parse each line as JSON."""
    return [json.loads(line) for line in response.text.splitlines()]


@schemathesis.hook
def filter_case(_context: Any, case: Any) -> bool:
    """Leave out requests that an OpenAPI document cannot exclude; each kind has its own tests."""
    query = case.query if isinstance(case.query, dict) else {}
    body = case.body if isinstance(case.body, dict) else {}
    # The order "best" needs `q`, and allows neither `after` nor `before`.
    best_first = query.get("order") == "best"
    # The schema must be a JSON schema, and the provider of the tests returns text.
    with_schema = case.path == "/ask" and isinstance(body.get("schema"), dict | str)
    # The provider of the tests refuses parameters that the API does not have.
    is_unknown = case.path == "/v1/responses" and not body.keys() <= {"model", "input", "stream"}
    # With tools the Responses API is asked, which has neither of these.
    is_unknown |= case.path == "/ask" and "tools" in body and bool({"stop", "seed"} & body.keys())
    return not (best_first or with_schema or is_unknown)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Use a new idempotency key for each question, and match any version of a record.

    A key of another question is refused, and so is an ETag that the record does not have.
    """
    key = (case.headers or {}).get(KEY, "")
    if 0 < len(key) <= MAX_KEY:
        own = str(uuid4())
        case.headers[KEY] = key[: MAX_KEY - len(own)] + own
    if "If-Match" in (case.headers or {}):
        case.headers["If-Match"] = "*"
