"""Cross-origin resource sharing, for the origins in QA_CORS_ORIGINS."""

import re
from typing import TYPE_CHECKING

from qacli.config.parsers import parse_list

if TYPE_CHECKING:
    from flask import Flask, Response

EXPOSED_HEADERS = (
    *("ETag", "Link", "Location", "Preference-Applied"),
    *("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
)


PREFLIGHT_SECONDS = 600


def init_app(app: "Flask", cors_origins: str | None) -> None:
    """Let pages of these origins call, and read what they get; none unless it is set."""
    origins = parse_list(cors_origins)
    if not origins:
        return
    from flask_cors import CORS

    CORS(
        app,
        # Compiled, since of a text with brackets in it, as IPv6 has, it would make a pattern.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in origins],
        expose_headers=list(EXPOSED_HEADERS),
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
