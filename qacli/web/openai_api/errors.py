"""Errors as OpenAI's API has them, so that its clients tell a busy server from a wrong request."""

import json
from http import HTTPStatus
from typing import Any

from flask import Response, jsonify, request
from pydantic import ValidationError

from qacli.web.errors import Problem

FORWARDED_STATUSES = range(400, 500)
"""Statuses of the provider that a client gets as they are, as it would without this server."""

NOT_RETRYABLE = {"key-rejected", "provider-refused", "not-configured", "schema-mismatch"}
"""Kinds whose status invites a client to ask again, in vain."""

CODES = {
    ("unauthorized", HTTPStatus.UNAUTHORIZED): "invalid_api_key",
    ("rate-limited", HTTPStatus.TOO_MANY_REQUESTS): "rate_limit_exceeded",
    ("provider-unavailable", HTTPStatus.TOO_MANY_REQUESTS): "rate_limit_exceeded",
    ("provider-refused", HTTPStatus.TOO_MANY_REQUESTS): "insufficient_quota",
    ("provider-refused", HTTPStatus.NOT_FOUND): "model_not_found",
}
"""OpenAI's codes for a kind with a status; for others the code is the kind."""


def render_openai_error(problem: Problem) -> Response:
    """Return the response of an error, as OpenAI's API has it."""
    response = jsonify(openai_error(problem))
    response.status_code = status_of(problem)
    response.headers.update(problem.headers)
    if problem.kind in NOT_RETRYABLE:
        response.headers["X-Should-Retry"] = "false"
    return response


def status_of(problem: Problem) -> int:
    """Return the status by which OpenAI's clients decide what to do."""
    provider_status = problem.provider_status or 0
    match problem.kind:
        case "invalid-request":
            return HTTPStatus.BAD_REQUEST
        case "provider-refused" if provider_status in FORWARDED_STATUSES:
            return provider_status
        case "provider-unavailable" if provider_status == HTTPStatus.TOO_MANY_REQUESTS:
            return HTTPStatus.TOO_MANY_REQUESTS
    return problem.status


def openai_error(problem: Problem) -> dict[str, Any]:
    """Return the body of an error, as OpenAI's API has it."""
    status = HTTPStatus(status_of(problem))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    else:
        kind = "invalid_request_error"
    code = CODES.get((problem.kind, status), problem.kind.replace("-", "_"))
    error: dict[str, Any] = {"message": problem.detail, "type": kind, "param": None, "code": code}
    if problem.record_id is not None:
        error["record_id"] = problem.record_id
    return {"error": error}


def from_validation(error: ValidationError) -> tuple[dict[str, Any], int]:
    """Return the body and the status for a request of the wrong shape: its first wrong field."""
    wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = _place(wrong["loc"], json.loads(request.get_data()))
    body: dict[str, Any] = {
        "message": f"{param or 'The body'} cannot be used: {wrong['msg'].rstrip('.')}.",
        "type": "invalid_request_error",
        "param": param or None,
        "code": wrong["type"] if wrong["type"] == "unsupported_parameter" else "invalid_value",
    }
    return {"error": body}, HTTPStatus.BAD_REQUEST


def _place(location: tuple[int | str, ...], body: object) -> str:
    """Return the path in the body of a location, which names the types that pydantic tried too."""
    path: list[str] = []
    here = body
    for number, part in enumerate(location):
        if (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        ):
            here = here[part]  # type: ignore[index]
        elif not isinstance(here, dict) or number < len(location) - 1:
            continue  # a type, and no part of the path, unless it names a missing field
        path.append(str(part))
    return ".".join(path)
