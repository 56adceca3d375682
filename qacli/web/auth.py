"""Authenticate each request, and refuse requests from pages of other sites.

`AppState.store` is the history that the authenticated caller may see; it raises Unauthorized for
a request that has not been authenticated.

Without tokens the server trusts every client that can reach it, also a browser with a page of
another site: the page may rebind its own name to 127.0.0.1 (so the Host header is checked) or post
across sites (so a write must not come from another origin). A request with a token in the
Authorization header needs neither check, because pages of other sites do not have the token. A
request with a session cookie needs both, because browsers send cookies automatically.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from qacli.config.callers import LOCAL_CALLER, Caller
from qacli.config.parsers import parse_list
from qacli.config.settings import Settings
from qacli.db.records import Store
from qacli.errors import Forbidden, Unauthorized
from qacli.web.request_context import current_context
from qacli.web.route_policy import Access, current_policy
from qacli.web.sessions import COOKIE, Sessions
from qacli.web.wrong_token_limit import FAILURES, FailureLimiter

EXTENSION_KEY = "qa-tokens"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class TokenAuth:
    """The accepted tokens, as digests of equal length, so that each comparison takes equal time.

    Args:
        callers: The tokens by the names of their callers.
        administrators: The names of the callers that are administrators.
    """

    def __init__(self, callers: Mapping[str, str], administrators: Collection[str] = ()) -> None:
        self._callers = {name: Caller(name, name in administrators) for name in callers}
        self._names = [(sha256(token.encode()).digest(), name) for name, token in callers.items()]

    def __bool__(self) -> bool:
        return bool(self._names)

    def caller(self, token: bytes) -> Caller | None:
        """Return the caller of a token; None for a wrong one. All tokens are compared."""
        digest = sha256(token).digest()
        caller = None
        for expected, name in self._names:
            if compare_digest(expected, digest):
                caller = self._callers[name]
        return caller

    def by_name(self, name: str) -> Caller:
        """Return the caller with a name."""
        return self._callers[name]


@dataclass(frozen=True, slots=True)
class Guard:
    """Authenticate the requests of one application.

    Attributes:
        tokens: The accepted tokens.
        sessions: The sessions of browsers.
        failures: Counts wrong tokens.
    """

    tokens: TokenAuth
    sessions: Sessions
    failures: FailureLimiter

    def from_token(self, token: bytes) -> Caller:
        """Return the caller of a token.

        Raises:
            Unauthorized: The token is wrong.
            RateLimited: The token is wrong, and its address has sent too many wrong ones.
        """
        caller = self.tokens.caller(token)
        if caller is None:
            self.failures.count(request.remote_addr)
            raise _unauthorized()
        return caller

    def from_cookie(self) -> Caller:
        """Return the caller of the session in the request's cookie.

        A wrong cookie is not counted as a failure: an id cannot be guessed, and browsers send old
        cookies.

        Raises:
            Unauthorized: There is no such session.
        """
        name = self.sessions.caller(request.cookies.get(COOKIE, ""))
        if name is None:
            raise _unauthorized()
        return self.tokens.by_name(name)


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach a server bound to the address."""
    return host in LOOPBACK or host.startswith("127.")


def init_app(app: Flask, settings: Settings, store: Store) -> None:
    """Check every request before its route runs.

    Args:
        app: The application.
        settings: The tokens, and the allowed names of the server.
        store: The database with the sessions of browsers.
    """
    callers = settings.callers
    guard = app.extensions[EXTENSION_KEY] = Guard(
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
        context = current_context()
        if not guard.tokens:
            context.identity = LOCAL_CALLER
        elif (token := _bearer_token()) is not None:
            context.identity = guard.from_token(token)
            return
        elif access is Access.TOKEN:
            context.identity = guard.from_cookie()
            context.is_signed_in = True
        if "*" not in hosts:
            _check_host(hosts)
        if request.method not in SAFE_METHODS:
            _check_origin(origins)

    app.before_request(check)


def current() -> Guard:
    """Return the guard of the current application."""
    guard: Guard = current_app.extensions[EXTENSION_KEY]
    return guard


def require_administrator() -> None:
    """Raise `Forbidden` if the caller is not an administrator.

    Raises:
        Forbidden: The caller is not an administrator.
    """
    identity = current_context().identity
    if identity is None or not identity.is_admin:
        raise Forbidden(
            "Only an administrator can see this.",
            "Send QA_TOKEN, or a token that QA_TOKENS marks: admin:name=token.",
        )


def _bearer_token() -> bytes | None:
    """Return the token in the Authorization header; None without the header, empty if invalid."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""


def _unauthorized() -> Unauthorized:
    return Unauthorized(
        "The token is missing or wrong.", "Send it as: Authorization: Bearer <token>."
    )


def _is_preflight(origins: frozenset[str]) -> bool:
    """Return True for a CORS preflight of an allowed origin; it has no token."""
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
            f"Host {name!r} is not allowed.",
            "Use localhost, add the name to QA_ALLOWED_HOSTS, or send a token of QA_TOKENS in the "
            "Authorization header.",
        )


def _check_origin(origins: frozenset[str]) -> None:
    """Refuse a write from another site, by Sec-Fetch-Site if it is sent, otherwise by Origin."""
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
            "Requests from pages of other sites are refused.",
            "Send a token of QA_TOKENS in the Authorization header, or add the page's origin to "
            "QA_CORS_ORIGINS.",
        )
