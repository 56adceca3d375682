"""Pass a client's request on to the provider unchanged, and read the response for the record.

The bytes of the response are handed on as they arrive. They are also parsed, so that the record
has the text, the tool calls and the usage; a response that cannot be parsed is handed on as well.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx2

from qacli.config.settings import Settings
from qacli.domain import Delta
from qacli.errors import ProviderError
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_mapping import ErrorMapper
from qacli.provider.response import ChatResponse, ErrorInAnswer, TextEvent, cut_off_error
from qacli.provider.response_reader import ResponseReader
from qacli.provider.responses_api import ResponsesApi
from qacli.provider.tool_calls import ToolCallWriter
from qacli.provider.transport import StatusError, follow_redirects, limited_bytes
from qacli.raw_request import RawRequest, ResponseBytes, ResponseEnd, ResponseHead
from qacli.redaction import hide_secrets

if TYPE_CHECKING:
    from qacli.provider.api import Api

READ_ERRORS = (ValueError, RecursionError, ErrorInAnswer, ProviderError)
"""The errors of a response that cannot be parsed, or is an error."""

KEY_REJECTED = 401
END_SECONDS = 0.5
"""Seconds to wait for the end of a stream after its end mark; then its connection is closed."""


APIS: "Mapping[str, type[Api]]" = {
    "/chat/completions": ChatCompletions,
    "/completions": ChatCompletions,
    "/responses": ResponsesApi,
}
"""The parser of the responses of each path; those of other paths are not parsed."""

DROPPED_HEADERS = frozenset(
    {
        # Those of one connection (RFC 9110, 7.6.1), and of the body's form on it.
        *("connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "content-length", "content-encoding"),
        # This server has its own ones, or they are about the provider's host.
        *("alt-svc", "content-security-policy", "cross-origin-opener-policy", "date", "nel"),
        *("permissions-policy", "ratelimit", "ratelimit-policy", "referrer-policy", "report-to"),
        *("server", "set-cookie", "strict-transport-security", "vary", "via"),
        *("www-authenticate", "x-content-type-options", "x-frame-options", "x-powered-by"),
        *("x-qa-record", "x-request-id", "x-xss-protection"),
    }
)
"""The headers of the provider that a client does not get, besides those of CORS."""

parse_url = lru_cache(maxsize=128)(httpx2.URL)
"""Return a URL as the HTTP client needs it: most requests have the same one."""

Sender = Callable[[str], Awaitable[httpx2.Response]]
RawEvent = TextEvent | ResponseHead | ResponseBytes | ResponseEnd


@dataclass(frozen=True, slots=True)
class Relay:
    """Sends raw requests to an endpoint.

    Attributes:
        http: The client; its hook raises a `StatusError` for a response without success.
        endpoint: The provider.
        settings: The time limits.
        errors: Maps errors in a response.
        find_path: Sends a request to a path below the base URL with a function of the path, once
            more with `/v1` where the base URL lacks that.
    """

    http: httpx2.AsyncClient
    endpoint: Endpoint
    settings: Settings
    errors: ErrorMapper
    find_path: Callable[[str, Sender], Awaitable[httpx2.Response]]

    async def exchange(
        self, request: RawRequest, response: ChatResponse, on_event: Callable[[RawEvent], None]
    ) -> None:
        """Send a request once, and hand on the response.

        A response that says that the key is wrong is not handed on: the key is this server's.

        Args:
            request: The request.
            response: Filled in while the response arrives.
            on_event: Called with `ResponseHead`, `ResponseBytes` in any number and, after a whole
                response, `ResponseEnd`; between them with the text that was parsed.

        Raises:
            Exception: What `ErrorMapper.map_error` maps; also for an error that was handed on.
        """
        # A response in one piece comes when it is complete: the total time is its only limit.
        silence = self.settings.first_token_timeout if request.is_streamed else None
        try:
            async with asyncio.timeout(silence):
                http = await self.find_path(
                    request.path,
                    lambda path: follow_redirects(
                        path, lambda url: self._send(url, request), self.errors.redirected
                    ),
                )
        except StatusError as error:
            if error.status != KEY_REJECTED:
                on_event(ResponseHead(error.status, passed_headers(error.headers)))
                on_event(ResponseBytes(self._without_key(error.content)))
                on_event(ResponseEnd())
            raise
        response.headers = http.headers
        api = APIS.get(request.path)
        reader = _RecordReader(
            response, None if api is None else ResponseReader(api(), response, on_event), on_event
        )
        on_event(ResponseHead(http.status_code, passed_headers(http.headers)))
        try:
            async for chunk in self._chunks(http, reader, silence):
                reader.feed(chunk)
                if response.is_done:
                    reader.close()
                on_event(ResponseBytes(chunk, response.is_done))
        finally:
            await http.aclose()
        reader.close()
        on_event(ResponseEnd())
        if reader.error is not None:
            raise reader.error

    async def _chunks(
        self, http: httpx2.Response, reader: "_RecordReader", silence: float | None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of a response to its end; after a whole answer it may break off."""
        chunks = limited_bytes(http).__aiter__()
        while True:
            is_done = reader.response.is_done
            try:
                async with asyncio.timeout(END_SECONDS if is_done else silence):
                    chunk = await anext(chunks, None)
            except (httpx2.HTTPError, OSError):  # TimeoutError is an OSError
                if not reader.has_answer:
                    raise
                return
            if chunk is None:
                return
            yield chunk

    async def _send(self, url: str, request: RawRequest) -> httpx2.Response:
        if url.startswith("/"):
            url = self.endpoint.url(url)
        headers = {**request.headers, **self.endpoint.headers}
        if request.query:
            url = f"{url}{'&' if '?' in url else '?'}{request.query}"
        sent = self.http.build_request(
            request.method, parse_url(url), content=request.body or None, headers=headers
        )
        return await self.http.send(sent, stream=True)

    def _without_key(self, content: bytes) -> bytes:
        """Return an error's body without this server's secrets: some endpoints repeat the key."""
        # Latin-1 keeps bytes of every value, and the headers with the secrets are in it.
        text = content.decode("latin-1")
        return hide_secrets(text, self.endpoint.secrets).encode("latin-1")


@dataclass(slots=True)
class _RecordReader:
    """Reads a response for the record; an error does not end the response of the client.

    Attributes:
        response: Filled in.
        reader: Reads the API of the response; None reads nothing.
        on_event: Called with the text of tool calls.
        error: The error in the response, or of its form; None if there is none.
    """

    response: ChatResponse
    reader: ResponseReader | None
    on_event: Callable[[TextEvent], None]
    error: Exception | None = None
    _calls: ToolCallWriter = field(default_factory=ToolCallWriter)
    _is_closed: bool = False

    @property
    def has_answer(self) -> bool:
        """The answer is complete; a connection that breaks then costs nothing."""
        if self.reader is None or self.error is not None:
            return False
        return self.response.has_ended or self.reader.has_document

    def feed(self, chunk: bytes) -> None:
        """Read some bytes."""
        if self.reader is None or self.error is not None:
            return
        try:
            self.reader.feed(chunk)
        except READ_ERRORS as error:
            self.error = error
        if text := self._calls.new_text(self.response):
            self.on_event(Delta(text))

    def close(self) -> None:
        """Read the rest of the response, and mark the answer as complete if it is."""
        if self._is_closed:
            return
        self._is_closed = True
        if self.reader is not None and self.error is None:
            try:
                self.reader.close()
                self.response.require_success()
                if self.reader.is_stream and not self.has_answer:  # not even a call of a tool
                    raise cut_off_error()
            except READ_ERRORS as error:
                self.error = error
        self._calls.finish(self.response)
        if self.error is None:
            self.response.finish()


def passed_headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a provider's response that are passed on to the client.

    The provider's `X-Request-Id` is renamed to `X-Provider-Request-Id`.
    """
    passed = [
        (name, value)
        for name, value in headers.items()
        if name.lower() not in DROPPED_HEADERS and not name.lower().startswith("access-control-")
    ]
    request_id = headers.get("x-request-id")
    return [*passed, ("X-Provider-Request-Id", request_id)] if request_id else passed
