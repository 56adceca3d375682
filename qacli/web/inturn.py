"""Questions go on in turn, from the first step of their requests on; see `qacli.turns`."""

from typing import IO, TYPE_CHECKING

from werkzeug.wsgi import get_content_length

from qacli.turns import TURNS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATHS = frozenset({"/ask", "/v1/chat/completions"})


class InTurn:
    """Has the requests that ask take turns; all others go on at once.

    Args:
        app: The application.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        """Handle a request."""
        if environ["PATH_INFO"] not in PATHS:
            return self._app(environ, start_response)
        environ["wsgi.input"] = _Body(environ["wsgi.input"], get_content_length(environ))
        with TURNS.taken():
            TURNS.take()
            return self._app(environ, start_response)


class _Body:
    """A body that is read out of turn: a client that sends slowly must hold nobody up.

    It is read when the application wants it and no earlier: who may not ask is told so before,
    and cannot hold a thread by sending slowly, either.

    Args:
        body: The body.
        length: How many bytes it has; None where it does not say.
    """

    def __init__(self, body: IO[bytes], length: int | None) -> None:
        self._body = body
        self._left = length

    def read(self, size: int) -> bytes:
        """Read a part; after the last one it is the request's turn again."""
        if self._left == 0:
            return b""
        TURNS.give()
        part = self._body.read(size if self._left is None else min(size, self._left))
        if self._left is not None:
            self._left -= len(part)
        if not part or self._left == 0:
            TURNS.take()
        return part
