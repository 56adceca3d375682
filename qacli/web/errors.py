"""Errors as RFC 9457 problems: every one of them, never a page, never a traceback."""

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from qacli.errors import QaError
from qacli.web.request_context import current_context

LOG = logging.getLogger("qa.web")

MIME_TYPE = "application/problem+json"

HTTP_ADVICE = {
    HTTPStatus.NOT_FOUND: "There is nothing at {path}.",
    HTTPStatus.METHOD_NOT_ALLOWED: "{path} does not take {method}.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than {limit} bytes.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body must be sent as application/json.",
}


def init_app(app: Flask) -> None:
    """Handle every kind of error that a request can end in."""
    app.register_error_handler(QaError, from_error)
    app.register_error_handler(ValidationError, from_validation)
    app.register_error_handler(HTTPException, from_http)
    app.register_error_handler(Exception, unexpected_error)


def problem(status: int, kind: str, detail: str, **members: Any) -> Response:  # noqa: ANN401 - JSON
    """A problem document.

    Args:
        status: The HTTP status.
        kind: The kind, as `errors.py` names it, or HTTP's own name for the status.
        detail: What happened and what to do.
        members: More of what is known, by name; None is left out.
    """
    known = current_context()
    known.error = kind
    members["request_id"] = known.request_id
    body = {
        "type": f"urn:qa:{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "kind": kind,
        **{name: value for name, value in members.items() if value is not None},
    }
    return Response(current_app.json.dumps(body), status, content_type=MIME_TYPE)


def problem_for(error: BaseException) -> Response:
    """Build the problem of an error of ours, or of an unexpected one."""
    return from_error(error) if isinstance(error, QaError) else unexpected_error(error)


def from_error(error: QaError) -> Response:
    """One of our own."""
    if error.record_id is not None:
        current_context().record_id = error.record_id
    response = problem(
        error.status,
        error.kind,
        str(error),
        provider_status=getattr(error, "provider_status", None),
        record_id=error.record_id,
    )
    if retry_after := error.retry_after:
        response.headers["Retry-After"] = str(max(round(retry_after), 1))
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="qa"'
    return response


def from_validation(error: ValidationError) -> Response:
    """Input of the wrong shape: which field, and what is wrong with it."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return problem(400, "bad-request", f"The body is not JSON: {found[0]['msg']}.")
    errors = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]}
        for item in found
    ]
    said = "; ".join(f"{item['field'] or 'the body'}: {item['message']}" for item in errors)
    return problem(422, "invalid-request", f"The request cannot be used: {said}.", errors=errors)


def from_http(error: HTTPException) -> Response:
    """What Flask itself refuses: an unknown address, a wrong method, a body too large."""
    status = HTTPStatus(error.code or 500)
    advice = HTTP_ADVICE.get(status, error.description or status.description)
    detail = advice.format(
        path=request.path, method=request.method, limit=current_app.config["MAX_CONTENT_LENGTH"]
    )
    response = problem(status, status.phrase.lower().replace(" ", "-"), detail)
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def unexpected_error(error: BaseException) -> Response:
    """A mistake of ours: the log has the traceback, the client does not."""
    LOG.error(
        "unexpected error", exc_info=error, extra={"request_id": current_context().request_id}
    )
    return problem(500, QaError.kind, "Something went wrong that should not have. See the log.")
