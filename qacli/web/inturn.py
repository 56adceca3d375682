"""Questions go on in turn, from the first step of their requests on; see `qacli.turns`."""

from io import BytesIO
from typing import TYPE_CHECKING

from qacli.turns import TURNS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATHS = frozenset({"/ask", "/v1/chat/completions"})


class InTurn:
    """Has the requests that ask take turns; all others go on at once.

    Args:
        app: The application.
        largest: Bytes of a body that is read before the turn comes: a client that sends slowly
            must hold nobody up. With a larger one, or one that does not say how large it is, a
            request has its first turn when its question is kept.
    """

    def __init__(self, app: "WSGIApplication", largest: int) -> None:
        self._app = app
        self._largest = largest

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        """Handle a request."""
        if environ["PATH_INFO"] not in PATHS:
            return self._app(environ, start_response)
        length = environ.get("CONTENT_LENGTH") or ""
        is_short = length.isdecimal() and int(length) <= self._largest
        if is_short:
            environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(length)))
        with TURNS.taken():
            if is_short:
                TURNS.take()
            return self._app(environ, start_response)
