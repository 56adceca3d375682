"""The path below which a proxy publishes the server: `X-Forwarded-Prefix`.

The proxy removes the prefix from each path and sends it in this header. Here it becomes WSGI's
SCRIPT_NAME (`current_context().root`). Routes in the code have no prefix: `init_app` adds it to
`Location`, and templates write `root()` before a link.
"""

import re
from typing import TYPE_CHECKING

from flask import Flask, Response

from qacli.web.request_context import current_context

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = re.compile(r"(?:/(?!\.\.?(?:/|$))[\w.~-]+)+", re.ASCII)
"""A path that needs no escaping in HTML, headers or cookies.

No `//`, which a browser reads as another host; no `.` or `..`.
"""


class ForwardedPrefixMiddleware:
    """Set SCRIPT_NAME from the nearest proxy's header; any other value than `PREFIX` is ignored.

    To be used only if clients cannot reach the server but through the proxy.

    Args:
        app: The application.
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
