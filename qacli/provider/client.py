"""Send Chat Completions requests, with the openai package."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import httpx2
import openai

from qacli.config.settings import OPENAI_BASE_URL, Settings
from qacli.domain import ChatRequest, ContextPart
from qacli.errors import ProviderError
from qacli.provider.debug import format_request
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_mapping import ErrorMapper
from qacli.provider.redirects import MAX_REDIRECTS, redirect_target
from qacli.provider.response import ChatResponse, ErrorInAnswer
from qacli.provider.retry import retry_delay

CHAT_PATH = "/chat/completions"
HANDLED_ERRORS = (
    *(openai.OpenAIError, httpx2.HTTPError, OSError, ValueError),
    *(ErrorInAnswer, ProviderError),
    RecursionError,  # Python's JSON parser, and what walks through its value: great depth
)
MODEL_LIST_TIMEOUT = 15.0
"""Seconds that a list of models may take."""

Response = TypeVar("Response")

TRAILING_USAGE_TIMEOUT = 2.0
"""Seconds to wait, after a complete answer, for its usage and the end of the stream."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that failed is sent again.

    Attributes:
        error: The error that it ended in.
        delay: Seconds until it is sent again.
        attempt: How often it has been sent so far.
    """

    error: ProviderError
    delay: float
    attempt: int


class AsyncProvider:
    """A provider that any number of tasks of one event loop can use.

    Args:
        endpoint: The provider's address and key.
        settings: The time limits and the number of retries.
        on_retry: Called before a request is sent again.
        on_request: Called with each request in a readable form without secrets.
        connections: The most connections at once. With a number, a client is used that takes
            longer to load and less processor time for a request.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        on_retry: Callable[[Retry], None] = lambda _retry: None,
        on_request: Callable[[str], None] | None = None,
        *,
        connections: int | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._on_retry = on_retry
        self._errors = ErrorMapper(endpoint, settings)

        async def show(request: httpx2.Request) -> None:
            if on_request is not None:
                on_request(format_request(request, endpoint.key))

        make = openai.DefaultAioHttpClient if connections else openai.DefaultAsyncHttpxClient
        self._client = openai.AsyncOpenAI(
            api_key=endpoint.key or "none",
            base_url=endpoint.base_url,
            max_retries=0,
            http_client=make(
                # The limits of time are ours: these would only hold for one read.
                timeout=openai.Timeout(None, connect=settings.connect_timeout),
                limits=httpx2.Limits(
                    max_connections=connections, max_keepalive_connections=connections
                ),
                # A redirect is followed here, and only on the same host.
                follow_redirects=False,
                event_hooks={"request": [show] if on_request is not None else []},
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def models(self) -> list[dict[str, Any]]:
        """Return the provider's list of models, as it describes them; each has an `id`.

        Raises:
            ProviderError: The list cannot be read.
        """
        try:
            async with asyncio.timeout(MODEL_LIST_TIMEOUT):
                response = await self._redirected(
                    "/models",
                    lambda url: self._client.get(
                        url, cast_to=httpx2.Response, options=self._options()
                    ),
                )
                body = response.json()
        except TimeoutError as error:
            raise self._errors.idle_timeout() from error
        except HANDLED_ERRORS as error:
            raise self._errors.map_error(error) from error
        models = body.get("data") if isinstance(body, dict) else None
        return [
            model
            for model in (models if isinstance(models, list) else [])
            if isinstance(model, dict) and isinstance(model.get("id"), str)
        ]

    async def ask(
        self, request: ChatRequest, reply: ChatResponse, *, on_text: Callable[[str], None]
    ) -> None:
        """Send a request, and send it again after an error that may pass.

        A request whose answer has begun to arrive is not sent again.

        Args:
            request: The request.
            reply: Filled in while the answer arrives, so that it holds the part that came before
                an error.
            on_text: Called with each piece of text as it arrives.

        Raises:
            ProviderError: There is no usable answer; the leaves of the class say why.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.timeout
        attempt = 0
        while True:
            attempt += 1
            try:
                await self.attempt(request, reply, deadline, on_text=on_text)
            except ProviderError as error:
                delay = retry_delay(error, attempt, self._settings.retries)
                if delay is None or reply.texts or loop.time() + delay >= deadline:
                    raise
                self._on_retry(Retry(error, delay, attempt))
                await asyncio.sleep(delay)
            else:
                return

    async def attempt(
        self,
        request: ChatRequest,
        reply: ChatResponse,
        deadline: float,
        *,
        on_text: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Send a request once.

        Args:
            request: The request.
            reply: Filled in while the answer arrives.
            deadline: The time of the event loop's clock by which the answer must be complete.
            on_text: Called with each piece of text as it arrives.

        Raises:
            ProviderError: There is no usable answer.
        """
        reply.reset()
        body = build_request(request, official=self.endpoint.base_url == OPENAI_BASE_URL)
        try:
            async with asyncio.timeout_at(deadline):
                if request.stream:
                    await self._request_stream(body, reply, on_text)
                else:
                    await self._request_whole(body, reply, on_text)
        except TimeoutError as error:
            late = asyncio.get_running_loop().time() >= deadline
            raise (self._errors.total_timeout() if late else self._errors.idle_timeout()) from error
        except HANDLED_ERRORS as error:
            if isinstance(error, openai.APIStatusError):
                reply.headers = error.response.headers
            raise self._errors.map_error(error) from error
        reply.finish()

    async def _request_whole(
        self, body: dict[str, Any], reply: ChatResponse, on_text: Callable[[str], None]
    ) -> None:
        # Nothing comes before all of it does: the deadline is the only limit.
        response = await self._redirected(
            CHAT_PATH,
            lambda url: self._client.post(
                url,
                cast_to=httpx2.Response,
                body={**body, "stream": False},
                options=self._options(),
            ),
        )
        await response.aread()
        reply.headers = response.headers
        self._read_json(response, reply, on_text)
        reply.require_text()

    async def _request_stream(
        self, body: dict[str, Any], reply: ChatResponse, on_text: Callable[[str], None]
    ) -> None:
        silence = self._settings.first_token_timeout
        async with asyncio.timeout(silence):
            stream = await self._redirected(
                CHAT_PATH,
                lambda url: self._client.post(
                    url,
                    cast_to=object,
                    body={
                        **body,
                        "stream": True,
                        "stream_options": {"include_usage": True},
                    },
                    options=self._options(),
                    stream=True,
                    stream_cls=openai.AsyncStream[object],
                ),
            )
        response = stream.response
        reply.headers = response.headers
        try:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "application/json":
                # The endpoint does not stream; its answer is as good in one piece.
                async with asyncio.timeout(silence):
                    await response.aread()
                self._read_json(response, reply, on_text)
                reply.require_text()
                return
            if kind == "text/html":
                raise self._errors.html_response()
            await self._read_stream(stream, reply, on_text)
        finally:
            await response.aclose()
        reply.require_complete()

    async def _read_stream(
        self,
        stream: openai.AsyncStream[object],
        reply: ChatResponse,
        on_text: Callable[[str], None],
    ) -> None:
        chunks = stream.__aiter__()
        while True:
            finished = reply.finish_reason is not None
            silence = TRAILING_USAGE_TIMEOUT if finished else self._settings.first_token_timeout
            try:
                async with asyncio.timeout(silence):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except (openai.APIConnectionError, httpx2.HTTPError, TimeoutError):
                if not finished:
                    raise
                return  # the answer was complete; a connection that breaks then costs nothing
            if text := reply.feed(chunk):
                on_text(text)

    def _read_json(
        self, response: httpx2.Response, reply: ChatResponse, on_text: Callable[[str], None]
    ) -> None:
        if response.headers.get("content-type", "").startswith("text/html"):
            raise self._errors.html_response()
        if text := reply.feed(response.json()):
            on_text(text)

    async def _redirected(self, path: str, send: Callable[[str], Awaitable[Response]]) -> Response:
        """Send a request, and send the same again where it is redirected on the same host.

        Args:
            path: The path below the base URL.
            send: Sends the request to that path, or to a whole URL.

        Raises:
            ProviderRefused: The redirect leads to another host, which gets neither the question
                nor the key.
            APIStatusError: Any other answer without success.
        """
        url = path
        for _ in range(MAX_REDIRECTS):
            try:
                return await send(url)
            except openai.APIStatusError as error:
                target = redirect_target(error.response)
                if target is None:
                    raise
                if not target.keeps_host:
                    raise self._errors.redirected(target) from error
                url = str(target.url)
        return await send(url)

    def _options(self) -> Any:  # noqa: ANN401 - the package's own type of options is not public
        # The package insists on a key; an endpoint that needs none is not sent one.
        return {} if self.endpoint.key else {"headers": {"Authorization": openai.omit}}


def build_request(request: ChatRequest, *, official: bool) -> dict[str, Any]:
    """Build the JSON body of a request, without `stream`.

    Args:
        request: The request.
        official: The body goes to OpenAI itself, whose newer models refuse `max_tokens`; other
            endpoints know no other name for the limit.
    """
    ask = request.question
    messages: list[dict[str, Any]] = []
    if ask.system:
        messages.append({"role": "system", "content": ask.system})
    for turn in request.turns:
        messages.append({"role": "user", "content": _content(turn.question, turn.parts)})
        messages.append({"role": "assistant", "content": turn.answer})
    messages.append({"role": "user", "content": _content(ask.question, request.parts)})
    body: dict[str, Any] = {"messages": messages, **ask.params}
    if official and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    return body


def _content(question: str, parts: Sequence[ContextPart]) -> str | list[dict[str, Any]]:
    """A user message's content: one text, which every endpoint takes, unless there are images."""
    if all(part.image_url is None for part in parts):
        return "\n\n".join([*(part.text for part in parts), question])
    content: list[dict[str, Any]] = []
    for part in parts:
        content.append({"type": "text", "text": part.text})
        if part.image_url is not None:
            content.append({"type": "image_url", "image_url": {"url": part.image_url}})
    return [*content, {"type": "text", "text": question}]
