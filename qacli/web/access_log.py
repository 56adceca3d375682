"""The access log: one line per request, as JSON or as text."""

import logging
import re
import sys
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from json.encoder import encode_basestring as encoded
from os import urandom
from textwrap import indent
from time import gmtime, perf_counter, strftime
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from qacli.sanitize import one_line, sanitized
from qacli.web.request_context import ENVIRON_KEY, RequestContext

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Request

LOG = logging.getLogger("qa.web")


REQUEST_ID_HEADER = "X-Request-Id"


VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


BODILESS_STATUSES = frozenset({HTTPStatus.NO_CONTENT.value, HTTPStatus.NOT_MODIFIED.value})


UNKNOWN_ROUTE = "other"
"""The name of every route that does not exist, and of every method that HTTP does not know."""


RequestEnded = Callable[[str, str, int, float], None]
"""Told a request's method, route, status and seconds; names that there are only so many of."""


class AccessLogMiddleware:
    """Takes notes of each request, and logs it once its response has been sent.

    A layer around the whole application and no part of it: that takes less than half of the time,
    and what goes wrong in the application itself is logged too.

    Args:
        app: The application.
        began: Called when a request comes.
        ended: Called when its response has been sent.
    """

    def __init__(
        self, app: "WSGIApplication", began: Callable[[], None], ended: RequestEnded
    ) -> None:
        self._app = app
        self._began = began
        self._ended = ended

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        """Handle a request."""
        given = environ.get("HTTP_X_REQUEST_ID")
        request_id: str = (
            given if given and VALID_REQUEST_ID.fullmatch(given) else urandom(16).hex()
        )
        known = environ[ENVIRON_KEY] = RequestContext(request_id, perf_counter())
        status, route, is_whole = HTTPStatus.INTERNAL_SERVER_ERROR.value, UNKNOWN_ROUTE, False
        self._began()

        def started(
            line: str,
            headers: list[tuple[str, str]],
            *exc_info: Any,  # noqa: ANN401 - as WSGI has it
        ) -> Callable[[bytes], object]:
            nonlocal status, route, is_whole
            status = int(line[:3])
            is_whole = status in BODILESS_STATUSES or any(
                name == "Content-Length" for name, _ in headers
            )
            # Now: Flask forgets it before the response is sent.
            matched: Request | None = environ.get("werkzeug.request")
            if matched is not None and matched.url_rule is not None:
                route = matched.url_rule.rule
                if known.record_id is None and matched.view_args:
                    known.record_id = matched.view_args.get("record_id")
            headers.append((REQUEST_ID_HEADER, request_id))
            return start_response(line, headers, *exc_info)

        def finish() -> None:
            seconds = perf_counter() - known.started_at
            method = environ["REQUEST_METHOD"]
            self._ended(
                method if method in KNOWN_METHODS else UNKNOWN_ROUTE, route, status, seconds
            )
            _log_request(known, environ, status, seconds)

        try:
            body = self._app(environ, started)
        except BaseException:
            finish()
            raise
        if not is_whole:
            return ClosingIterator(body, finish)
        finish()
        return body


def _log_request(
    known: RequestContext, environ: "WSGIEnvironment", status: int, seconds: float
) -> None:
    level = logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
    if not LOG.isEnabledFor(level):
        return
    # As WSGI has it: the bytes of the path, each as one character.
    path = environ["PATH_INFO"].encode("latin-1", "replace").decode(errors="replace")
    method = environ["REQUEST_METHOD"]
    line = "%s %s %s", (method, path, status)
    # Made here and not by the logger, which would first look for the line of code it is called in.
    record = logging.LogRecord(LOG.name, level, "", 0, *line, None)
    record.request = {
        "request_id": known.request_id,
        "method": method,
        "path": path,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "caller": known.caller,
        "record_id": known.record_id,
        "remote": environ.get("REMOTE_ADDR"),
        "error": known.error,
    }
    LOG.handle(record)


def log_to_stderr(redact: Callable[[str], str]) -> None:
    """Send all logs to standard error.

    Args:
        redact: Takes the secrets out of a text: a traceback may hold any.
    """
    as_text = sys.stderr.isatty()
    handler = logging.StreamHandler(sanitized(sys.stderr))
    handler.setFormatter(TextFormatter(redact) if as_text else JsonFormatter(redact))
    # No line names them, and finding them out takes as long as all else about a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class _RedactingFormatter(logging.Formatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def _message(self, record: logging.LogRecord) -> str:
        """The message of a line that is about no request's end, with its traceback."""
        return self._redact(super().format(record))


class JsonFormatter(_RedactingFormatter):
    """A line of JSON each; what is not known is not in it."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__(redact)
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields: dict[str, Any] | None = getattr(record, "request", None)
        if fields is None:
            fields = {
                "request_id": getattr(record, "request_id", None),
                "logger": record.name,
                "message": self._message(record),
            }
        # By hand, in a third of the time: it is done for each request.
        known = [
            f'"{name}": {encoded(value) if isinstance(value, str) else value}'
            for name, value in fields.items()
            if value is not None
        ]
        start = f'{{"time": "{self._time(record)}", "level": "{record.levelname.lower()}", '
        return start + ", ".join(known) + "}"

    def _time(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        known = self._second  # read once: other threads write it
        if known[0] != second:
            known = self._second = (second, strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)))
        return f"{known[1]}.{int(record.msecs):03}+00:00"


class TextFormatter(_RedactingFormatter):
    """A line for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        start = f"{datetime.fromtimestamp(record.created):%H:%M:%S} {record.levelname:7} "  # noqa: DTZ006 - a person's clock
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
        """The message in one line: what a client sent cannot begin a line of its own (CWE-117)."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - logging's name and type
        """The traceback, indented: the text of an exception cannot look like a line of the log."""
        return indent(super().formatException(ei), "  ", lambda _line: True)
