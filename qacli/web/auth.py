"""Authenticate each request, and refuse those that a web page elsewhere makes in a browser.

What the caller may see follows from it in one place: `AppState.store` is the history as this caller
sees it, and there is none for a request that has not been authenticated.

Without a token the server trusts whoever can reach it, and a browser can: a page may rebind its
own name to 127.0.0.1 (so the Host must be one of ours) or post across sites (so a write must not
come from another origin). A token in the Authorization header needs neither check: no page
elsewhere has it. The cookie of a session needs both: a browser sends it by itself.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from qacli.config.callers import LOCAL, Caller
from qacli.config.parsers import parse_list
from qacli.config.settings import Settings
from qacli.db.records import Store
from qacli.errors import Forbidden, Unauthorized
from qacli.web.policy import Access, current_policy
from qacli.web.request_context import current_context
from qacli.web.sessions import COOKIE, Sessions
from qacli.web.throttle import FAILURES, FailureLimiter

KEY = "qa-tokens"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class TokenAuth:
    """The tokens that are accepted, as digests: equally long, so that comparing tells nothing.

    Args:
        callers: The tokens by the names of their callers.
        administrators: Which of them are administrators.
    """

    def __init__(self, callers: Mapping[str, str], administrators: Collection[str] = ()) -> None:
        self._callers = {name: Caller(name, name in administrators) for name in callers}
        self._names = [(sha256(token.encode()).digest(), name) for name, token in callers.items()]

    def __bool__(self) -> bool:
        return bool(self._names)

    def caller(self, given: bytes) -> Caller | None:
        """Return the caller of a token; None for a wrong one. Compares all, whichever it is."""
        digest = sha256(given).digest()
        found = None
        for known, name in self._names:
            if compare_digest(known, digest):
                found = name
        return None if found is None else self._callers[found]

    def named(self, name: str) -> Caller:
        """Return the caller of that name."""
        return self._callers[name]


@dataclass(frozen=True, slots=True)
class Guard:
    """What authenticates the requests of one application.

    Attributes:
        tokens: The tokens that are accepted.
        sessions: The sessions of browsers.
        failures: Counts wrong tokens.
    """

    tokens: TokenAuth
    sessions: Sessions
    failures: FailureLimiter

    def from_token(self, given: bytes) -> Caller:
        """Return the caller of a token.

        Raises:
            Unauthorized: It is wrong.
            RateLimited: It is wrong, and this address has sent too many wrong ones.
        """
        caller = self.tokens.caller(given)
        if caller is None:
            self.failures.count(request.remote_addr)
            raise _unauthorized()
        return caller

    def from_cookie(self) -> Caller:
        """Return the caller whose browser sends the request.

        A wrong cookie is not counted: its id cannot be guessed, and a browser that sends an old
        one is sent to sign in.

        Raises:
            Unauthorized: There is no session, or no more.
        """
        name = self.sessions.caller(request.cookies.get(COOKIE, ""))
        if name is None:
            raise _unauthorized()
        return self.tokens.named(name)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to the address."""
    return host in LOOPBACK or host.startswith("127.")


def init_app(app: Flask, settings: Settings, store: Store) -> None:
    """Check every request before its route runs.

    Args:
        app: The application.
        settings: The tokens, and the names by which the server may be called.
        store: Where the sessions of browsers are kept.
    """
    callers = settings.callers
    guard = app.extensions[KEY] = Guard(
        TokenAuth(callers, settings.administrators),
        Sessions(callers, store),
        FailureLimiter(max(FAILURES // settings.workers, 1)),
    )
    hosts = LOOPBACK | {settings.host.lower()}
    hosts |= {name.lower() for name in parse_list(settings.allowed_hosts)}
    origins = frozenset(parse_list(settings.cors_origins))

    def check() -> None:
        access = current_policy().access
        if access is Access.PUBLIC or _is_preflight(origins):
            return
        known = current_context()
        if not guard.tokens:
            known.identity = LOCAL
        elif (given := _bearer()) is not None:
            known.identity = guard.from_token(given)
            return
        elif access is Access.TOKEN:
            known.identity = guard.from_cookie()
            known.is_signed_in = True
        if "*" not in hosts:
            _check_host(hosts)
        if request.method not in SAFE_METHODS:
            _check_origin(origins)

    app.before_request(check)


def current() -> Guard:
    """Return what authenticates the requests of the application."""
    guard: Guard = current_app.extensions[KEY]
    return guard


def require_administrator() -> None:
    """Refuse a caller that may only use its own records.

    Raises:
        Forbidden: The caller is not an administrator.
    """
    identity = current_context().identity
    if identity is None or not identity.is_admin:
        raise Forbidden(
            "Only an administrator may see this.",
            "Send QA_TOKEN, or a token that QA_TOKENS marks: admin:name=token.",
        )


def _bearer() -> bytes | None:
    """The token in the Authorization header, as it was sent; None where there is no such header."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, given = header.partition(" ")
    return given.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""


def _unauthorized() -> Unauthorized:
    return Unauthorized(
        "The token is missing or wrong.", "Send it as: Authorization: Bearer <token>."
    )


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
