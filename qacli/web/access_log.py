"""The access log: one line per request, as JSON or as text."""

import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from os import urandom
from textwrap import indent
from time import perf_counter
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from qacli.sanitize import one_line, sanitized
from qacli.web.request_context import ENVIRON_KEY, RequestContext

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Request

LOG = logging.getLogger("qa.web")
ENCODER = json.JSONEncoder(ensure_ascii=False)


REQUEST_ID_HEADER = "X-Request-Id"
VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BODILESS_STATUSES = frozenset({HTTPStatus.NO_CONTENT.value, HTTPStatus.NOT_MODIFIED.value})

UNKNOWN_ROUTE = "other"
"""The label of paths without a route, and of methods that HTTP does not have."""

OnResponse = Callable[[str, str, int, float], None]
"""Called with a method, a route, a status and seconds; a client cannot add methods or routes."""


class AccessLogMiddleware:
    """Create the context of each request, and log it once its response has been sent.

    It is a WSGI layer around the application, so that errors of the application are logged too.

    Args:
        app: The application.
        on_request: Called when a request arrives.
        on_response: Called when its response has been sent.
    """

    def __init__(
        self, app: "WSGIApplication", on_request: Callable[[], None], on_response: OnResponse
    ) -> None:
        self._app = app
        self._on_request = on_request
        self._on_response = on_response

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        """Handle a request."""
        header = environ.get("HTTP_X_REQUEST_ID")
        request_id: str = (
            header if header and VALID_REQUEST_ID.fullmatch(header) else urandom(16).hex()
        )
        context = environ[ENVIRON_KEY] = RequestContext(
            request_id, perf_counter(), root=environ.get("SCRIPT_NAME", "")
        )
        status, route, is_sized = HTTPStatus.INTERNAL_SERVER_ERROR.value, UNKNOWN_ROUTE, False
        self._on_request()

        def start(
            line: str,
            headers: list[tuple[str, str]],
            *exc_info: Any,  # noqa: ANN401 - WSGI's type
        ) -> Callable[[bytes], object]:
            nonlocal status, route, is_sized
            status = int(line[:3])
            is_sized = status in BODILESS_STATUSES or any(
                name == "Content-Length" for name, _ in headers
            )
            # Read the route now: Flask drops the request before the response is sent.
            request: Request | None = environ.get("werkzeug.request")
            if request is not None and request.url_rule is not None:
                route = request.url_rule.rule
                if context.record_id is None and request.view_args:
                    context.record_id = request.view_args.get("record_id")
            headers.append((REQUEST_ID_HEADER, request_id))
            return start_response(line, headers, *exc_info)

        def finish() -> None:
            seconds = perf_counter() - context.started_at
            method = environ["REQUEST_METHOD"]
            self._on_response(
                method if method in KNOWN_METHODS else UNKNOWN_ROUTE, route, status, seconds
            )
            _log_request(context, environ, status, seconds)

        try:
            body = self._app(environ, start)
        except BaseException:
            finish()
            raise
        if not is_sized:
            return ClosingIterator(body, finish)
        finish()
        return body


def _log_request(
    context: RequestContext, environ: "WSGIEnvironment", status: int, seconds: float
) -> None:
    level = logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
    if not LOG.isEnabledFor(level):
        return
    # WSGI has the bytes of the path, each as one character (PEP 3333).
    path = environ["PATH_INFO"].encode("latin-1", "replace").decode(errors="replace")
    method = environ["REQUEST_METHOD"]
    fields = {
        "request_id": context.request_id,
        "method": method,
        "path": path,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "caller": context.caller,
        "record_id": context.record_id,
        "remote": environ.get("REMOTE_ADDR"),
        "error": context.error,
    }
    LOG.log(level, "%s %s %s", method, path, status, extra={"request": fields})


def log_to_stderr(redact: Callable[[str], str]) -> None:
    """Send all logs to standard error.

    Args:
        redact: Removes the secrets from a text, for example from a traceback.
    """
    as_text = sys.stderr.isatty()
    handler = logging.StreamHandler(sanitized(sys.stderr))
    handler.setFormatter(TextFormatter(redact) if as_text else JsonFormatter(redact))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class _RedactingFormatter(logging.Formatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def _message(self, record: logging.LogRecord) -> str:
        """Return the message and the traceback of a record that is not an access log line."""
        return self._redact(super().format(record))


class JsonFormatter(_RedactingFormatter):
    """Format a record as one line of JSON; fields that are None are left out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] | None = getattr(record, "request", None)
        if fields is None:
            fields = {
                "request_id": getattr(record, "request_id", None),
                "logger": record.name,
                "message": self._message(record),
            }
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), **fields}
        present = {name: value for name, value in line.items() if value is not None}
        return ENCODER.encode(present)


class TextFormatter(_RedactingFormatter):
    """Format a record as one line for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        start = f"{datetime.fromtimestamp(record.created):%H:%M:%S} {record.levelname:7} "  # noqa: DTZ006 - local time, for a person
        fields = getattr(record, "request", None)
        if fields is None:
            return start + self._message(record)
        words = [
            f"{fields['method']} {fields['path']} {fields['status']}",
            f"{fields['ms']:.0f} ms",
            fields["caller"],
            fields["record_id"] and f"#{fields['record_id']}",
            fields["error"],
            fields["remote"],
            fields["request_id"],
        ]
        return start + "  ".join(one_line(str(word)) for word in words if word)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the message in one line: a client's text cannot start a new one (CWE-117)."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - logging's name and type
        """Return the traceback, indented: the text of an exception cannot look like a log line."""
        return indent(super().formatException(ei), "  ", lambda _line: True)
