"""The context of each request: its id, its caller and its record, for the log and for errors.

It never holds a body, a query, a token or a text of the history.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from time import perf_counter

from flask import Flask, current_app, g, has_app_context, has_request_context, request

from qacli.config.callers import Caller

ENVIRON_KEY = "qa.request_context"


@dataclass(slots=True)
class RequestContext:
    """The context of one request; several modules of the server set its fields.

    Attributes:
        request_id: The id in the log, in the response and on the record.
        started_at: The start, in seconds of `perf_counter`.
        identity: The caller, once authenticated; None before, and for public routes.
        is_signed_in: The caller was authenticated by the session of a browser.
        root: The path below which a proxy publishes the server, such as `/qa`; usually empty.
        record_id: The id of the record that the request reads or writes.
        error: The kind of the error of the response.
    """

    request_id: str | None
    started_at: float
    identity: Caller | None = None
    is_signed_in: bool = False
    root: str = ""
    record_id: int | None = None
    error: str | None = None

    @property
    def caller(self) -> str | None:
        """The name of the request's token."""
        return self.identity.name if self.identity else None

    def origin(self) -> dict[str, str | None]:
        """Return the fields of a record that name its request."""
        return {"caller": self.caller, "request_id": self.request_id}


def current_context() -> RequestContext:
    """Return the current request's context, or an empty one outside a request."""
    context: RequestContext | None = None
    if has_request_context():
        context = request.environ.get(ENVIRON_KEY)
    elif has_app_context():
        context = g.get(ENVIRON_KEY)
    return context or RequestContext(None, perf_counter())


def keep_context() -> Callable[[], AbstractContextManager[None]]:
    """Return a context manager factory for a streaming response, which outlives its request.

    Inside the context manager the application and the request's context are current again.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    context = current_context()

    @contextmanager
    def restore() -> Iterator[None]:
        with app.app_context():
            setattr(g, ENVIRON_KEY, context)
            yield

    return restore
