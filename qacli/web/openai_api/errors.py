"""Errors as OpenAI has them, so that its clients tell a full server from a wrong request.

Every error on its way out is a problem by then (see `qacli.web.errors`), whoever raised it: a
route, the guard before it, or the search for a route. So they are reworded here, on their way.
"""

import json
from http import HTTPStatus
from typing import Any

from flask import Response, current_app, request
from pydantic import ValidationError

from qacli.web import errors
from qacli.web.openapi import JSON

PATH = "/v1/"
PASSED_ON = range(400, 500)
"""The provider's own statuses that a client would have seen without us in between."""

HOPELESS = {"key-rejected", "provider-refused", "not-configured", "schema-mismatch"}
"""Kinds whose status invites a client to ask again, in vain."""

CODES = {
    ("unauthorized", HTTPStatus.UNAUTHORIZED): "invalid_api_key",
    ("rate-limited", HTTPStatus.TOO_MANY_REQUESTS): "rate_limit_exceeded",
    ("provider-unavailable", HTTPStatus.TOO_MANY_REQUESTS): "rate_limit_exceeded",
    ("provider-refused", HTTPStatus.TOO_MANY_REQUESTS): "insufficient_quota",
    ("provider-refused", HTTPStatus.NOT_FOUND): "model_not_found",
}
"""OpenAI's own words for a kind with a status, where there are any."""


def to_openai_error(response: Response) -> Response:
    """A problem on its way out, as OpenAI would have said it; anything else as it is."""
    if request.path.startswith(PATH) and response.mimetype == errors.MIME_TYPE:
        problem = json.loads(response.get_data())
        response.status_code = status_of(problem)
        response.set_data(current_app.json.dumps(openai_error(problem)))
        response.mimetype = JSON
        if problem["kind"] in HOPELESS:
            response.headers["X-Should-Retry"] = "false"
    return response


def status_of(problem: dict[str, Any]) -> int:
    """The status by which OpenAI's clients decide what to do."""
    said = problem.get("provider_status", 0)
    match problem["kind"]:
        case "invalid-request":
            return HTTPStatus.BAD_REQUEST
        case "provider-refused" if said in PASSED_ON:
            return int(said)
        case "provider-unavailable" if said == HTTPStatus.TOO_MANY_REQUESTS:
            return HTTPStatus.TOO_MANY_REQUESTS
    return int(problem["status"])


def openai_error(problem: dict[str, Any], *, param: str | None = None) -> dict[str, Any]:
    """The body of an error, from a problem."""
    status = HTTPStatus(status_of(problem))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    else:
        kind = "invalid_request_error"
    code = CODES.get((problem["kind"], status), problem["kind"].replace("-", "_"))
    error = {"message": problem["detail"], "type": kind, "param": param, "code": code}
    if "record_id" in problem:
        error["record_id"] = problem["record_id"]
    return {"error": error}


def from_validation(error: ValidationError) -> tuple[dict[str, Any], int]:
    """A request of the wrong shape: its first wrong field."""
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
    """Where in the body a location is; pydantic also names there which kind of value it tried."""
    path: list[str] = []
    here = body
    for number, part in enumerate(location):
        if (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        ):
            here = here[part]  # type: ignore[index]
        elif not isinstance(here, dict) or number < len(location) - 1:
            continue  # no place but a kind, unless it is the name of what is missing
        path.append(str(part))
    return ".".join(path)
