"""Who may call: the token, and requests that a web page elsewhere makes in a person's browser.

Without a token the server trusts whoever can reach it, and a browser can: a page may rebind its
own name to 127.0.0.1 (so the Host must be one of ours) or post across sites (so a write must not
come from another origin). With a token neither matters: no page has it.
"""

from hmac import compare_digest
from urllib.parse import urlsplit

from flask import Flask, request

from qacli.config import Settings
from qacli.errors import Forbidden, Unauthorized

OPEN_PATHS = {"/is_up", "/is_ready"}
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to the address."""
    return host in LOOPBACK or host.startswith("127.")


def install(app: Flask, settings: Settings) -> None:
    """Check every request before its route runs."""
    hosts = LOOPBACK | {settings.host.lower()}
    hosts |= {name.strip().lower() for name in (settings.allowed_hosts or "").split(",")} - {""}

    def check() -> None:
        if request.path in OPEN_PATHS:
            return
        if settings.token:
            _check_token(settings.token)
            return
        if "*" not in hosts:
            _check_host(hosts)
        if request.method not in SAFE_METHODS:
            _check_origin()

    app.before_request(check)


def _check_token(token: str) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(given.strip().encode(), token.encode()):
        raise Unauthorized(
            "The token is missing or wrong.", "Send it as: Authorization: Bearer <token>."
        )


def _check_host(hosts: set[str]) -> None:
    try:
        name = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        name = ""
    if name.rstrip(".") not in hosts:
        raise Forbidden(
            "This server does not go by that name.",
            "Call it localhost, add the name to QA_ALLOWED_HOSTS, or set QA_TOKEN.",
        )


def _check_origin() -> None:
    """Refuse a write from another site: Sec-Fetch-Site where the browser sends it, else Origin."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        allowed = site in {"same-origin", "none"}
    else:
        allowed = origin is None or origin.partition("://")[2] == request.headers.get("Host")
    if not allowed:
        raise Forbidden(
            "A page from another site may not ask here.", "Set QA_TOKEN and send the token."
        )
