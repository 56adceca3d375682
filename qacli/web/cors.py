"""Cross-origin resource sharing, for the origins in QA_CORS_ORIGINS."""

import re
from typing import TYPE_CHECKING

from qacli.config.parsers import parse_list

if TYPE_CHECKING:
    from flask import Flask, Response

EXPOSED_HEADERS = (
    *("ETag", "Link", "Location", "Preference-Applied"),
    *("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
    *("X-QA-Record", "X-Provider-Request-Id", "X-Should-Retry"),
)


PREFLIGHT_SECONDS = 600


def init_app(app: "Flask", cors_origins: str | None) -> None:
    """Allow pages of these origins to call the API and read its responses; none by default."""
    origins = parse_list(cors_origins)
    if not origins:
        return
    from flask_cors import CORS

    CORS(
        app,
        # Compiled: flask-cors would read an IPv6 origin, which has brackets, as a pattern.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in origins],
        expose_headers=list(EXPOSED_HEADERS),
        max_age=PREFLIGHT_SECONDS,
        # Pages of other origins send a token in a header; the cookie is for qa's own pages.
        supports_credentials=False,
        always_send=False,
        intercept_exceptions=False,
        vary_header=False,
    )

    def vary(response: "Response") -> "Response":
        # Also without an Origin header: a cache must not return that response to a page.
        response.vary.add("Origin")
        return response

    app.after_request(vary)
