"""Errors of requests: built once as a `Problem`, rendered as the route's clients expect.

The default is a problem document (RFC 9457). The routes of `/v1` and of the page have renderers of
their own; see `add_renderer`.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from qacli.db.record_queries import RecordNotFound
from qacli.errors import QaError
from qacli.web.request_context import current_context
from qacli.web.route_policy import current_endpoint

LOG = logging.getLogger("qa.web")

MIME_TYPE = "application/problem+json"
EXTENSION_KEY = "qa-error-renderers"

HTTP_ADVICE = {
    HTTPStatus.NOT_FOUND: "There is nothing at {path}. The routes are at /docs.",
    HTTPStatus.METHOD_NOT_ALLOWED: "{path} does not take {method}. Use {methods}.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than {limit} bytes. Send less.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "The body is not sent as JSON. Send it with Content-Type: application/json."
    ),
}

VALIDATION_MESSAGES = {
    "extra_forbidden": "There is no field of this name",
    "timezone_aware": "Give a time zone, for example 2026-11-01T12:00:00Z",
}
"""Messages in place of those of pydantic, by its types of errors."""

MAX_ERRORS = 10
"""Invalid fields that an error names; a query can have thousands."""

MAX_SHOWN_LENGTH = 200
"""Characters of a path or of a field's name that an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error of a request.

    Attributes:
        status: The HTTP status.
        kind: The kind, as `errors.py` names it, or HTTP's own name for the status.
        detail: The event, and the advice.
        provider_status: The HTTP status of the provider's response.
        record_id: The id of the record with the failed question.
        request_id: The id of the request in the log.
        errors: The invalid fields of a request: `field` and `message` each.
        headers: Headers of the response.
    """

    status: int
    kind: str
    detail: str
    provider_status: int | None = None
    record_id: int | None = None
    request_id: str | None = None
    errors: list[dict[str, str]] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the members of the problem document; None means left out."""
        members = {
            "type": f"urn:qa:{self.kind}",
            "title": self.kind.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "kind": self.kind,
            "provider_status": self.provider_status,
            "record_id": self.record_id,
            "errors": self.errors,
            "request_id": self.request_id,
        }
        return {name: value for name, value in members.items() if value is not None}

    def to_json(self) -> str:
        """Return the problem document as JSON text."""
        return current_app.json.dumps(self.to_dict())


Renderer = Callable[[Problem], Response]


def init_app(app: Flask) -> None:
    """Register the handler for all errors of requests."""
    app.extensions[EXTENSION_KEY] = []
    app.register_error_handler(Exception, lambda error: render(problem_for(error)))


def add_renderer(app: Flask, blueprints: Collection[str], prefix: str, renderer: Renderer) -> None:
    """Render the errors of some routes in another form.

    Args:
        app: The application.
        blueprints: The names of the blueprints of these routes.
        prefix: The beginning of the paths of these blueprints: for paths without a route.
        renderer: Returns the response.
    """
    app.extensions[EXTENSION_KEY].append((frozenset(blueprints), prefix, renderer))


def render(problem: Problem) -> Response:
    """Return the response of an error, in the form of the current request's route."""
    endpoint = current_endpoint()
    for blueprints, prefix, renderer in current_app.extensions[EXTENSION_KEY]:
        if (
            request.path.startswith(prefix)
            if endpoint is None
            else endpoint.partition(".")[0] in blueprints
        ):
            response: Response = renderer(problem)
            return response
    return render_problem(problem)


def render_problem(problem: Problem) -> Response:
    """Return the response of an error as a problem document."""
    return Response(
        problem.to_json(), problem.status, headers=problem.headers, content_type=MIME_TYPE
    )


def problem_for(error: BaseException) -> Problem:
    """Return the problem for an error; set its kind and record in the context, for the log."""
    context = current_context()
    if isinstance(error, QaError) and error.record_id is not None:
        context.record_id = error.record_id
    match error:
        case QaError():
            problem = _from_error(error)
        case ValidationError():
            problem = _from_validation(error)
        case HTTPException():
            problem = _from_http(error)
        case _:
            problem = _from_bug(error)
    context.error = problem.kind
    return problem


def _from_error(error: QaError) -> Problem:
    headers = {}
    if retry_after := error.retry_after:
        headers["Retry-After"] = str(max(round(retry_after), 1))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="qa"'
    todo = "List the records: GET /qas" if isinstance(error, RecordNotFound) else error.todo
    return Problem(
        status=error.status,
        kind=error.kind,
        detail=f"{error.what} {todo}".strip(),
        provider_status=getattr(error, "provider_status", None),
        record_id=error.record_id,
        request_id=current_context().request_id,
        headers=headers,
    )


def _from_validation(error: ValidationError) -> Problem:
    """Return the problem for invalid input, with the fields and the reasons."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    request_id = current_context().request_id
    if details[0]["type"] == "json_invalid":
        reason = details[0]["msg"].removeprefix("Invalid JSON: ")
        detail = f"The body is not JSON: {reason}. Send a JSON object in UTF-8."
        return Problem(status=400, kind="bad-request", detail=detail, request_id=request_id)
    errors = [
        {
            "field": _shortened(".".join(str(part) for part in item["loc"])),
            "message": VALIDATION_MESSAGES.get(
                item["type"], item["msg"].removeprefix("Value error, ").removesuffix(".")
            ),
        }
        for item in details[:MAX_ERRORS]
    ]
    reasons = "; ".join(f"{item['field'] or 'the body'}: {item['message']}" for item in errors)
    if more := len(details) - len(errors):
        reasons += f"; and {more} more"
    return Problem(
        status=422,
        kind="invalid-request",
        detail=f"The request cannot be used: {reasons}.",
        errors=errors,
        request_id=request_id,
    )


def _from_http(error: HTTPException) -> Problem:
    """Return the problem for an error of Flask: an unknown path, a wrong method, a large body."""
    status = HTTPStatus(error.code or 500)
    advice = HTTP_ADVICE.get(status, error.description or status.description)
    if error.description and error.description != type(error).description:
        advice = error.description
    return Problem(
        status=status,
        kind=status.phrase.lower().replace(" ", "-"),
        detail=advice.format(
            path=_shortened(request.path),
            method=_shortened(request.method),
            methods=" or ".join(_usual_methods(error)),
            limit=request.max_content_length,
        ),
        request_id=current_context().request_id,
        headers={
            name: value
            for name, value in error.get_headers()
            if name.lower() not in {"content-type", "content-length"}
        },
    )


def _usual_methods(error: HTTPException) -> list[str]:
    """Return the methods that the path of a request takes, without those of every path."""
    methods = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    return sorted(set(methods or ()) - {"HEAD", "OPTIONS"})


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}…"


def _from_bug(error: BaseException) -> Problem:
    """Return the problem for a bug; only the log has its traceback."""
    request_id = current_context().request_id
    LOG.error("unexpected error", exc_info=error, extra={"request_id": request_id})
    detail = "Unexpected error in the server. Its traceback is in the server's log."
    return Problem(status=500, kind=QaError.kind, detail=detail, request_id=request_id)
