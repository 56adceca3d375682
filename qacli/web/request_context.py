"""What is known of each request, and its one line in the log.

The line is written when the response is there, and of a stream when its last byte is: as JSON
where standard error is no terminal, for a person where it is one. It never holds a body, a query,
a token or a text of the history.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from time import perf_counter

from flask import Flask, current_app, g, has_app_context, has_request_context, request

from qacli.config.callers import Caller

ENVIRON_KEY = "qa.notes"


@dataclass(slots=True)
class RequestContext:
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
    started_at: float
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


def current_context() -> RequestContext:
    """The notes of the request that is being handled; outside of any they lead nowhere."""
    found: RequestContext | None = None
    if has_request_context():
        found = request.environ.get(ENVIRON_KEY)
    elif has_app_context():
        found = g.get(ENVIRON_KEY)
    return found or RequestContext(None, perf_counter())


def keep_context() -> Callable[[], AbstractContextManager[None]]:
    """What a response that is a stream needs of its request, once that is over.

    Gives what to enter then: inside of it the application and the notes are there again.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    known = current_context()

    @contextmanager
    def again() -> Iterator[None]:
        with app.app_context():
            setattr(g, ENVIRON_KEY, known)
            yield

    return again
