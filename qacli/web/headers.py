"""Headers of every response: what a browser may do with it, and whose pages may read it."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qacli.callers import listed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask, Response

ALWAYS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
EXPOSED = (
    *("ETag", "Link", "Location", "Preference-Applied"),
    *("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
)
PREFLIGHT_SECONDS = 600


class Secured:
    """Adds them to every response, errors included; what a route has set itself stays.

    Args:
        app: The application.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        """Handle a request."""

        def started(
            line: str,
            headers: list[tuple[str, str]],
            *exc_info: Any,  # noqa: ANN401 - as WSGI has it
        ) -> Callable[[bytes], object]:
            there = {name.lower(): value for name, value in headers}
            headers += ALWAYS
            if "content-security-policy" not in there:
                is_page = there.get("content-type", "").startswith("text/html")
                headers.append(("Content-Security-Policy", PAGE if is_page else NO_PAGE))
            if "cache-control" not in there:
                headers.append(("Cache-Control", "no-store"))
            return start_response(line, headers, *exc_info)

        return self._app(environ, started)


def allow(app: "Flask", cors_origins: str | None) -> None:
    """Let pages of these origins call, and read what they get; none unless it is set."""
    origins = listed(cors_origins)
    if not origins:
        return
    from flask_cors import CORS

    CORS(
        app,
        # Compiled, since of a text with brackets in it, as IPv6 has, it would make a pattern.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in origins],
        expose_headers=list(EXPOSED),
        max_age=PREFLIGHT_SECONDS,
        # A page elsewhere sends its token in a header: the cookie is for our own pages.
        supports_credentials=False,
        always_send=False,
        intercept_exceptions=False,
        vary_header=False,
    )

    def vary(response: "Response") -> "Response":
        # Also where there was no Origin: a cache must not give that response to a page.
        response.vary.add("Origin")
        return response

    app.after_request(vary)
