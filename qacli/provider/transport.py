"""Send requests with the openai package's client, and read responses of a limited size.

The package reads the whole body of an error, and of an answer that is not streamed, whatever its
size. Here every body is read in pieces, decompressed, up to a limit.
"""

import json
import re
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from typing import Any, Self

import httpx2
import openai

from qacli.errors import BrokenAnswer
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_body import WEB_PAGE, find_error, parse_error
from qacli.provider.redirects import MAX_REDIRECTS, Redirect, redirect_target

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""The largest answer that is read, decompressed."""

UNDECODED = frozenset({"br", "zstd"})
"""The forms of compression that the client passes on as they are where their package is missing."""

MODEL_WORD = r"(?i)(?<![a-z])model(?![a-z])"

UNKNOWN_PATH = r"Unexpected endpoint or method"

MAX_ERROR_BYTES = 256 * 1024
"""The part of an error response that is read, decompressed."""

MAX_COMPRESSED_ERROR_BYTES = MAX_RESPONSE_BYTES // 1032
"""The largest compressed response that is an error of a path; DEFLATE packs at most 1,032 to 1."""


class StatusError(openai.OpenAIError):
    """A response without success.

    Attributes:
        status: Its HTTP status.
        headers: Its headers.
        body: Its JSON, or its text.
        content: Its bytes, decompressed.
        redirect: The target, if it is a redirect.
    """

    def __init__(self, response: httpx2.Response, body: object, content: bytes) -> None:
        super().__init__(f"status {response.status_code}")
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.body = body
        self.content = content
        self.redirect = redirect_target(response)


async def raise_for_status(response: httpx2.Response) -> None:
    """Raise a `StatusError` for a response without success: a hook of the HTTP client."""
    if response.is_success:
        return
    content = bytearray()
    # The status is known, so an error in the body does not matter: it may break off, or not be
    # compressed as its header says.
    with suppress(httpx2.HTTPError):
        async for chunk in response.aiter_bytes():
            content += chunk[: MAX_ERROR_BYTES - len(content)]
            if len(content) >= MAX_ERROR_BYTES:
                break
    try:
        text = content.decode(response.charset_encoding or "utf-8", "replace")
    except LookupError:  # Python has no such character set
        text = content.decode("utf-8", "replace")
    raise StatusError(response, parse_json_or_text(text), bytes(content))


def is_missing(error: StatusError) -> bool:
    """Return whether the path of a request does not exist; an unknown model is another error.

    An unknown model is a 404 too, of an API that is there.
    """
    if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        return False
    body = parse_error(error.body)
    texts = (body.param, body.code, body.message)
    return not any(re.search(MODEL_WORD, text) for text in texts if text)


async def serves_no_api(response: httpx2.Response) -> bool:
    """Return whether a response with success shows that its path is not an API's.

    It is an HTML page, not only by its content type, which gateways in PHP send with all answers;
    or LM Studio's error for an unknown path, which has the status 200.
    """
    kind = response.headers.get("content-type", "").lower()
    is_html = kind.startswith("text/html")
    if not is_html and not kind.startswith("application/json"):
        return False
    length = response.headers.get("content-length", "")
    is_compressed = "content-encoding" in response.headers
    max_bytes = MAX_COMPRESSED_ERROR_BYTES if is_compressed else MAX_ERROR_BYTES
    if not length.isdecimal() or int(length) > max_bytes:
        return is_html
    text = (await response.aread()).decode(errors="replace")
    if is_html:
        return re.match(WEB_PAGE, text) is not None
    error = find_error(parse_json_or_text(text))
    return error is not None and re.match(UNKNOWN_PATH, error.message) is not None


def parse_json_or_text(text: str) -> object:
    """Return the JSON value of a text, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


async def limited_bytes(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Yield the pieces of a response's body.

    Raises:
        BrokenAnswer: The body is larger than `MAX_RESPONSE_BYTES`.
        httpx2.DecodingError: The body is compressed in a form that was not accepted.
    """
    size = 0
    accepted = response.request.headers.get("accept-encoding", "")
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in UNDECODED and encoding not in accepted:
        raise httpx2.DecodingError(f"the response is compressed with {encoding}")
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES:
            raise BrokenAnswer(
                f"The provider's answer is larger than {MAX_RESPONSE_BYTES // 1024**2} MiB.",
                "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
            )
        yield chunk


async def follow_redirects(
    path: str,
    send: Callable[[str], Awaitable[httpx2.Response]],
    refuse: Callable[[Redirect], Exception],
) -> httpx2.Response:
    """Send a request, and send the same again if it is redirected on the same host.

    Args:
        path: The path below the base URL.
        send: Sends the request to that path, or to a whole URL.
        refuse: Returns the error for a redirect to another host, which gets neither the question
            nor the key.

    Raises:
        StatusError: Any other answer without success.
    """
    url = path
    for _ in range(MAX_REDIRECTS):
        try:
            return await send(url)
        except StatusError as error:
            if error.redirect is None:
                raise
            if not error.redirect.keeps_host:
                raise refuse(error.redirect) from error
            url = str(error.redirect.url)
    return await send(url)


@cache
def system_context() -> ssl.SSLContext:
    """Return the context that trusts the authorities of the system, which takes 45 ms to make."""
    return httpx2.create_ssl_context(trust_env=False)


class SystemContext(ssl.SSLContext):
    """A context like `system_context`, made with the first connection that needs TLS.

    Most endpoints of the user's own machine and network are plain HTTP.
    """

    def __new__(cls) -> Self:
        """Make one that reads no authorities."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Set the protocols of the connections."""
        system_context().set_alpn_protocols(alpn_protocols)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:  # noqa: ANN401 - passed on
        """Start TLS on a connection: the method that asyncio and anyio call."""
        return system_context().wrap_bio(*args, **options)


def make_http_client(
    endpoint: Endpoint,
    on_request: Callable[[httpx2.Request], Awaitable[None]] | None,
    *,
    connect_seconds: float,
    connections: int | None,
) -> httpx2.AsyncClient:
    """Create the HTTP client of an endpoint.

    Args:
        endpoint: The endpoint; its route has the proxy and the certificates.
        on_request: Called with each request before it is sent.
        connect_seconds: The time limit for a connection; the other limits are the caller's.
        connections: The most connections at once. With a number, and without a proxy, the client
            is aiohttp, which takes less processor time for a request and longer to load; it does
            not know SOCKS proxies. It is not used if openai was loaded without it.
    """
    route = endpoint.route
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    context = route.certificates or SystemContext()
    is_aiohttp = connections is not None and route.proxy is None and "aiohttp" in sys.modules
    return openai.DefaultAsyncHttpxClient(
        timeout=openai.Timeout(None, connect=connect_seconds),
        limits=limits,
        transport=_aiohttp_transport(context, limits) if is_aiohttp else None,
        # A redirect is followed by `follow_redirects`, and only on the same host.
        follow_redirects=False,
        # The variables of the environment are resolved in `qacli.config.network`.
        trust_env=False,
        proxy=route.proxy,
        verify=context,
        event_hooks={
            "request": [] if on_request is None else [on_request],
            "response": [raise_for_status],
        },
    )


def _aiohttp_transport(
    context: ssl.SSLContext, limits: httpx2.Limits
) -> httpx2.AsyncBaseTransport | None:
    """Return the transport of aiohttp; None if this version of openai has none of its own."""
    try:
        from qacli.provider.aiohttp_transport import Transport
    except ImportError:
        return None
    return Transport(verify=context, limits=limits, trust_env=False)


def request_options(endpoint: Endpoint) -> Any:  # noqa: ANN401 - the package's type is private
    """Return the options of a request: its headers."""
    headers = {name.title(): value for name, value in endpoint.headers.items()}
    # The package insists on a key, and sends it if nothing else is in its place.
    return {"headers": {"Authorization": openai.omit, **headers}}
