"""Who may call: the tokens, and requests that a web page elsewhere makes in a person's browser.

Without a token the server trusts whoever can reach it, and a browser can: a page may rebind its
own name to 127.0.0.1 (so the Host must be one of ours) or post across sites (so a write must not
come from another origin). A token in the Authorization header needs neither check: no page
elsewhere has it. The cookie of somebody who has signed in does: a browser sends it by itself.
"""

from hashlib import sha256
from hmac import compare_digest
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from qacli.callers import listed
from qacli.config import Settings
from qacli.errors import Forbidden, Unauthorized
from qacli.web.access import notes

KEY = "qa-tokens"

UNCHECKED = frozenset({"/is_up", "/is_ready"})
"""What anybody may ask for, by any name: whether the server lives tells nothing."""

TOKENLESS = frozenset({"/sign-in", "/sign-out"})
TOKENLESS_FOLDER = "/static/"
"""With these, what needs no token: a person must be able to sign in. Host and Origin count."""

COOKIE = "qa_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Tokens:
    """The tokens that are accepted, as digests: equally long, so that comparing tells nothing.

    Args:
        callers: The tokens by the names of those who have them.
    """

    def __init__(self, callers: dict[str, str]) -> None:
        self._names = [(sha256(token.encode()).digest(), name) for name, token in callers.items()]

    def __bool__(self) -> bool:
        return bool(self._names)

    def caller(self, given: bytes) -> str | None:
        """Whose token it is; None where it is nobody's. All are compared, whichever it is."""
        digest = sha256(given).digest()
        found = None
        for known, name in self._names:
            if compare_digest(known, digest):
                found = name
        return found


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to the address."""
    return host in LOOPBACK or host.startswith("127.")


def install(app: Flask, settings: Settings) -> None:
    """Check every request before its route runs."""
    tokens = app.extensions[KEY] = Tokens(settings.callers)
    hosts = LOOPBACK | {settings.host.lower()}
    hosts |= {name.lower() for name in listed(settings.allowed_hosts)}
    origins = frozenset(listed(settings.cors_origins))

    def check() -> None:
        if request.path in UNCHECKED or _is_preflight(origins):
            return
        if tokens:
            if (given := _bearer()) is not None:
                notes().caller = _accepted(tokens, given)
                return
            if not _is_tokenless():
                notes().caller = _accepted(tokens, request.cookies.get(COOKIE, "").encode())
        if "*" not in hosts:
            _check_host(hosts)
        if request.method not in SAFE_METHODS:
            _check_origin(origins)

    app.before_request(check)


def is_token(given: str) -> bool:
    """Whether it is one of the tokens that are accepted."""
    tokens: Tokens = current_app.extensions[KEY]
    return tokens.caller(given.encode()) is not None


def _bearer() -> bytes | None:
    """The token in the Authorization header, as it was sent; None where there is no such header."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, given = header.partition(" ")
    return given.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""


def _accepted(tokens: Tokens, given: bytes) -> str:
    caller = tokens.caller(given)
    if caller is None:
        raise Unauthorized(
            "The token is missing or wrong.", "Send it as: Authorization: Bearer <token>."
        )
    return caller


def _is_tokenless() -> bool:
    return request.path in TOKENLESS or request.path.startswith(TOKENLESS_FOLDER)


def _is_preflight(origins: frozenset[str]) -> bool:
    """Whether a browser asks if a page may call; it sends no token with that."""
    return (
        request.method == "OPTIONS"
        and "Access-Control-Request-Method" in request.headers
        and request.headers.get("Origin") in origins
    )


def _check_host(hosts: frozenset[str]) -> None:
    try:
        name = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        name = ""
    if name.rstrip(".") not in hosts:
        raise Forbidden(
            "This server does not go by that name.",
            "Call it localhost, add the name to QA_ALLOWED_HOSTS, or send a token of QA_TOKENS in "
            "the Authorization header.",
        )


def _check_origin(origins: frozenset[str]) -> None:
    """Refuse a write from another site: Sec-Fetch-Site where the browser sends it, else Origin."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if origin in origins:
        return
    if site is not None:
        allowed = site in {"same-origin", "none"}
    else:
        allowed = origin is None or origin.partition("://")[2] == request.headers.get("Host")
    if not allowed:
        raise Forbidden(
            "A page from another site may not ask here.",
            "Send a token of QA_TOKENS in the Authorization header, or add the page's origin to "
            "QA_CORS_ORIGINS.",
        )
