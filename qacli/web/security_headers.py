"""Add security headers to every response: content types, frames and Content-Security-Policy."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


COMMON_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
API_CSP = "default-src 'none'; frame-ancestors 'none'"
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class SecurityHeadersMiddleware:
    """Add the headers to every response, also to errors; headers that a route sets are kept.

    Args:
        app: The application.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        """Handle a request."""

        def start(
            status: str,
            headers: list[tuple[str, str]],
            *exc_info: Any,  # noqa: ANN401 - WSGI's type
        ) -> Callable[[bytes], object]:
            present = {name.lower(): value for name, value in headers}
            headers += COMMON_HEADERS
            if "content-security-policy" not in present:
                is_page = present.get("content-type", "").startswith("text/html")
                headers.append(("Content-Security-Policy", PAGE_CSP if is_page else API_CSP))
            if "cache-control" not in present:
                headers.append(("Cache-Control", "no-store"))
            return start_response(status, headers, *exc_info)

        return self._app(environ, start)
