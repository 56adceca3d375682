"""Render errors in the format of OpenAI's API, so that its clients know which ones to retry."""

from dataclasses import replace
from http import HTTPStatus
from typing import Any

import werkzeug.exceptions
from flask import Response, jsonify, request
from pydantic import ValidationError

from qacli.provider.translation.untranslatable import Untranslatable
from qacli.web.errors import Problem, problem_for

FORWARDED_STATUSES = range(400, 500)
"""Statuses of the provider that are passed on unchanged."""

REFUSALS = frozenset({"provider-refused", "model-not-found"})
"""Kinds of errors for a response 4xx of the provider."""

NOT_RETRYABLE = {*REFUSALS, "key-rejected", "not-configured", "schema-mismatch", "budget-spent"}
"""Kinds of errors that clients would retry because of their status, but should not."""

CODES = {
    ("unauthorized", HTTPStatus.UNAUTHORIZED): "invalid_api_key",
    ("rate-limited", HTTPStatus.TOO_MANY_REQUESTS): "rate_limit_exceeded",
    ("budget-spent", HTTPStatus.TOO_MANY_REQUESTS): "insufficient_quota",
    ("provider-unavailable", HTTPStatus.TOO_MANY_REQUESTS): "rate_limit_exceeded",
    ("provider-refused", HTTPStatus.TOO_MANY_REQUESTS): "insufficient_quota",
    ("provider-refused", HTTPStatus.NOT_FOUND): "not_found",
}
"""OpenAI's code for a kind and a status; for other pairs the code is the kind."""


PASSTHROUGH_ADVICE = "With QA_PASSTHROUGH=true the server passes it on to the provider."


def render_openai_error(problem: Problem) -> Response:
    """Return the response for an error, in the format of OpenAI's API."""
    if isinstance(request.routing_exception, werkzeug.exceptions.NotFound):
        what, _, _ = problem.detail.rpartition(". ")
        problem = replace(problem, detail=f"{what}. {PASSTHROUGH_ADVICE}")
    response = jsonify(openai_error(problem))
    response.status_code = status_of(problem)
    response.headers.update(problem.headers)
    if problem.kind in NOT_RETRYABLE:
        response.headers["X-Should-Retry"] = "false"
    return response


def status_of(problem: Problem) -> int:
    """Return the HTTP status; OpenAI's clients decide by it whether to retry."""
    provider_status = problem.provider_status or 0
    match problem.kind:
        case "invalid-request":
            return HTTPStatus.BAD_REQUEST
        case kind if kind in REFUSALS and provider_status in FORWARDED_STATUSES:
            return provider_status
        case "provider-unavailable" if provider_status == HTTPStatus.TOO_MANY_REQUESTS:
            return HTTPStatus.TOO_MANY_REQUESTS
    return problem.status


def openai_error(problem: Problem) -> dict[str, Any]:
    """Return the body for an error, in the format of OpenAI's API."""
    status = HTTPStatus(status_of(problem))
    if problem.kind == "budget-spent":
        kind = "insufficient_quota"
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
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
    """Return the body and the status for an invalid header; the provider validates the body."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(map(str, first["loc"]))
    body: dict[str, Any] = {
        "message": f"{param} cannot be used: {first['msg'].rstrip('.')}.",
        "type": "invalid_request_error",
        "param": param,
        "code": "invalid_value",
    }
    return {"error": body}, HTTPStatus.BAD_REQUEST


def from_untranslatable(error: Untranslatable) -> Response:
    """Return the response for a part of a request that cannot be used, with its name and code."""
    problem_for(error)  # for the log
    response = jsonify(error.to_dict())
    response.status_code = HTTPStatus.BAD_REQUEST
    response.headers["X-Should-Retry"] = "false"
    return response
