"""What is known of each request, and its one line in the log.

The line is written when the response is there, and of a stream when its last byte is: as JSON
where standard error is no terminal, for a person where it is one. It never holds a body, a query,
a token or a text of the history.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from json.encoder import encode_basestring as encoded
from os import urandom
from textwrap import indent
from time import gmtime, perf_counter, strftime
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, current_app, g, has_app_context, has_request_context, request
from werkzeug.wsgi import ClosingIterator

from qacli.callers import Caller
from qacli.sanitize import one_line, sanitized

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOG = logging.getLogger("qa.web")
KEY = "qa.notes"
HEADER = "X-Request-Id"
SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BODILESS = frozenset({HTTPStatus.NO_CONTENT.value, HTTPStatus.NOT_MODIFIED.value})
ELSE = "other"
"""The name of every route that does not exist, and of every method that HTTP does not know."""

Ended = Callable[[str, str, int, float], None]
"""Told a request's method, route, status and seconds; names that there are only so many of."""


@dataclass(slots=True)
class Notes:
    """What is known of a request; whoever finds out more adds it.

    Attributes:
        request_id: Its name in the log, in the response and on the record.
        began: When it came, as `perf_counter` tells the time.
        identity: The caller, once it has been authenticated; None before, and where nothing was
            checked.
        is_signed_in: The caller was recognized by the session of a browser.
        record_id: The record that it is about.
        error: The kind of error that it ended in.
    """

    request_id: str | None
    began: float
    identity: Caller | None = None
    is_signed_in: bool = False
    record_id: int | None = None
    error: str | None = None

    @property
    def caller(self) -> str | None:
        """The name of the token that the request was made with."""
        return self.identity.name if self.identity else None

    def origin(self) -> dict[str, str | None]:
        """What the record of a question keeps of its request."""
        return {"caller": self.caller, "request_id": self.request_id}


def notes() -> Notes:
    """The notes of the request that is being handled; outside of any they lead nowhere."""
    found: Notes | None = None
    if has_request_context():
        found = request.environ.get(KEY)
    elif has_app_context():
        found = g.get(KEY)
    return found or Notes(None, perf_counter())


def for_stream() -> Callable[[], AbstractContextManager[None]]:
    """What a response that is a stream needs of its request, once that is over.

    Gives what to enter then: inside of it the application and the notes are there again.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    known = notes()

    @contextmanager
    def again() -> Iterator[None]:
        with app.app_context():
            setattr(g, KEY, known)
            yield

    return again


class Access:
    """Takes notes of each request, and logs it once its response has been sent.

    A layer around the whole application and no part of it: that takes less than half of the time,
    and what goes wrong in the application itself is logged too.

    Args:
        app: The application.
        began: Called when a request comes.
        ended: Called when its response has been sent.
    """

    def __init__(self, app: "WSGIApplication", began: Callable[[], None], ended: Ended) -> None:
        self._app = app
        self._began = began
        self._ended = ended

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        """Handle a request."""
        given = environ.get("HTTP_X_REQUEST_ID")
        request_id: str = given if given and SANE.fullmatch(given) else urandom(16).hex()
        known = environ[KEY] = Notes(request_id, perf_counter())
        status, route, is_whole = HTTPStatus.INTERNAL_SERVER_ERROR.value, ELSE, False
        self._began()

        def started(
            line: str,
            headers: list[tuple[str, str]],
            *exc_info: Any,  # noqa: ANN401 - as WSGI has it
        ) -> Callable[[bytes], object]:
            nonlocal status, route, is_whole
            status = int(line[:3])
            is_whole = status in BODILESS or any(name == "Content-Length" for name, _ in headers)
            # Now: Flask forgets it before the response is sent.
            matched: Request | None = environ.get("werkzeug.request")
            if matched is not None and matched.url_rule is not None:
                route = matched.url_rule.rule
                if known.record_id is None and matched.view_args:
                    known.record_id = matched.view_args.get("record_id")
            headers.append((HEADER, request_id))
            return start_response(line, headers, *exc_info)

        def finish() -> None:
            seconds = perf_counter() - known.began
            method = environ["REQUEST_METHOD"]
            self._ended(method if method in METHODS else ELSE, route, status, seconds)
            _log(known, environ, status, seconds)

        try:
            body = self._app(environ, started)
        except BaseException:
            finish()
            raise
        if not is_whole:
            return ClosingIterator(body, finish)
        finish()
        return body


def _log(known: Notes, environ: "WSGIEnvironment", status: int, seconds: float) -> None:
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
    handler.setFormatter(TextLines(redact) if as_text else JsonLines(redact))
    # No line names them, and finding them out takes as long as all else about a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class _Lines(logging.Formatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def _message(self, record: logging.LogRecord) -> str:
        """The message of a line that is about no request's end, with its traceback."""
        return self._redact(super().format(record))


class JsonLines(_Lines):
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


class TextLines(_Lines):
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
