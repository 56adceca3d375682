"""The path below which a proxy publishes the server: `X-Forwarded-Prefix`.

The proxy takes the prefix off the path of each request and names it in the header. It is WSGI's
SCRIPT_NAME, and `current_context().root`. Addresses in the code are without it: `Location` gets it
here, links of pages by the template function `root()`.
"""

import re
from typing import TYPE_CHECKING

from flask import Flask, Response

from qacli.web.request_context import current_context

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = re.compile(r"(?:/(?!\.\.?(?:/|$))[\w.~-]+)+", re.ASCII)
"""A path that is the same in HTML, in headers and in cookies; `//` would be another server."""


class ForwardedPrefixMiddleware:
    """Set SCRIPT_NAME from the header of the nearest proxy; a value that is no path is ignored.

    Args:
        app: The application; only a proxy can reach it.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        """Handle a request."""
        header = environ.get("HTTP_X_FORWARDED_PREFIX", "")
        prefix = header.rpartition(",")[2].strip().rstrip("/")
        if PREFIX.fullmatch(prefix):
            environ["SCRIPT_NAME"] = prefix
        return self._app(environ, start_response)


def init_app(app: Flask) -> None:
    """Add the prefix to the `Location` of responses and to the functions of templates."""
    app.add_template_global(root)

    def add_prefix(response: Response) -> Response:
        location = response.headers.get("Location", "")
        if location.startswith("/") and not location.startswith("//"):
            response.headers["Location"] = root() + location
        return response

    app.after_request(add_prefix)


def root() -> str:
    """Return the prefix of the current request, such as `/qa`; empty without one."""
    return current_context().root
