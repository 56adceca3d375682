"""Ask a provider, with the openai package's client; retry and adapt a request if that helps."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import httpx2
import openai

from qacli.config.settings import Settings
from qacli.domain import ChatRequest
from qacli.errors import ProviderError, ProviderTimeout
from qacli.provider.api import choose_api, needs_responses
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.connection import Connection
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_body import parse_error
from qacli.provider.error_mapping import ErrorMapper
from qacli.provider.gate import Gate, NoGate
from qacli.provider.refused_features import (
    MEANINGS,
    Feature,
    RefusedFeatures,
    refused_feature,
    refuses_api,
)
from qacli.provider.response import ChatResponse, ErrorInAnswer, TextEvent
from qacli.provider.response_reader import ResponseReader
from qacli.provider.responses_api import ResponsesApi
from qacli.provider.retry import Retry, retry_delay
from qacli.provider.think_tags import ThinkTagSplitter
from qacli.provider.transport import (
    StatusError,
    limited_bytes,
)

if TYPE_CHECKING:
    from qacli.provider.api import Api
    from qacli.provider.batch_api import BatchApi
    from qacli.provider.relay import RawEvent
    from qacli.provider.translation.relay import TranslatingRelay
    from qacli.raw_request import RawRequest

APIS: "Mapping[Feature, Callable[[], Api]]" = {
    Feature.CHAT_COMPLETIONS: ChatCompletions,
    Feature.RESPONSES: ResponsesApi,
}
HANDLED_ERRORS = (
    *(openai.OpenAIError, httpx2.HTTPError, OSError, ValueError),
    *(ErrorInAnswer, ProviderError),
    RecursionError,  # JSON that is nested too deeply for Python's parser
)
MODEL_LIST_TIMEOUT = 15.0
"""Seconds that a list of models may take."""

NO_LIST_STATUSES = (404, 405, 501)
"""The statuses of an endpoint without a list of models, which may answer questions."""

TRAILING_USAGE_TIMEOUT = 2.0
"""Seconds to wait, after a complete answer, for its usage and the end of the stream."""


class AsyncProvider:
    """A provider that any number of tasks of one event loop can use.

    Args:
        endpoint: The provider's address and key.
        settings: The time limits and the number of retries.
        on_retry: Called before a request is sent again.
        on_request: Called with each request in a readable form without secrets.
        on_notice: Called with a sentence about a feature that the endpoint refuses.
        connections: The most connections at once. With a number, a client is used that takes
            longer to load and less processor time for a request.
        gate: Limits the requests for answers.
    """

    def __init__(  # noqa: PLR0913 - the callbacks, by name
        self,
        endpoint: Endpoint,
        settings: Settings,
        on_retry: Callable[[Retry], None] = lambda _retry: None,
        on_request: Callable[[str], None] | None = None,
        on_notice: Callable[[str], None] = lambda _notice: None,
        *,
        connections: int | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._gate = gate or NoGate()
        self._settings = settings
        self._on_retry = on_retry
        self._on_notice = on_notice
        self._refused = RefusedFeatures(settings.data_path)
        self._errors = ErrorMapper(endpoint, settings)

        self._connection = Connection(
            endpoint,
            self._errors,
            self._refused,
            connect_seconds=settings.connect_timeout,
            on_request=on_request,
            on_notice=on_notice,
            connections=connections,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def models(self) -> list[dict[str, Any]]:
        """Return the provider's list of models, as it describes them; each has an `id`.

        Raises:
            ProviderError: The list cannot be read.
        """
        from qacli.provider.model_list import MODELS_PATH, models_in, next_page

        models: list[dict[str, Any]] = []
        path: str | None = MODELS_PATH
        try:
            async with asyncio.timeout(MODEL_LIST_TIMEOUT):
                while path is not None:
                    body = await self._connection.json(path, None)
                    models += models_in(body)
                    path = next_page(body, path)
        except TimeoutError as error:
            raise ProviderTimeout(
                f"The list of models of {self.endpoint.name} did not come within "
                f"{MODEL_LIST_TIMEOUT:g} s.",
                "Try again later. To ask a model, only its name is needed: --model NAME",
                retryable=True,
            ) from error
        except HANDLED_ERRORS as error:
            mapped = self._errors.map_error(error)
            if mapped.provider_status in NO_LIST_STATUSES:
                mapped.todo = (
                    "It may have no list of models, or the base URL is wrong. The provider's "
                    "documentation has the names for --model."
                )
            raise mapped from error
        return models

    async def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Send a request that is no question, again after an error that may pass.

        Args:
            path: The path below the base URL, such as `/embeddings`.
            body: The request.

        Returns:
            The response as JSON.

        Raises:
            ProviderError: There is no usable response.
        """
        attempt = 0
        deadline = asyncio.get_running_loop().time() + self._settings.timeout
        while True:
            attempt += 1
            try:
                async with self._mapped_errors(ChatResponse(), deadline, {}):
                    return await self._connection.json(path, body)
            except ProviderError as error:
                delay = retry_delay(error, attempt, self._settings.retries)
                if delay is None or asyncio.get_running_loop().time() + delay >= deadline:
                    raise
                self._on_retry(Retry(error, delay, attempt))
                await asyncio.sleep(delay)

    async def ask(
        self,
        request: ChatRequest,
        response: ChatResponse,
        *,
        on_event: Callable[[TextEvent], None],
        seconds: float | None = None,
        retries: int | None = None,
    ) -> None:
        """Send a request, and send it again after an error that may pass.

        A request whose answer has begun to arrive is not sent again.

        Args:
            request: The request.
            response: Filled in while the answer arrives, so that it holds the part that came
                before an error.
            on_event: Called with each piece of text and reasoning as it arrives.
            seconds: The time for the answer; None means that of the settings.
            retries: How often it may be sent again; None means the number of the settings.

        Raises:
            ProviderError: There is no usable answer; the leaves of the class say why.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._settings.timeout if seconds is None else seconds)
        retries = self._settings.retries if retries is None else retries
        attempt = 0
        while True:
            attempt += 1
            try:
                await self.attempt(request, response, deadline, on_event=on_event)
            except ProviderError as error:
                delay = retry_delay(error, attempt, retries)
                if delay is None or response.has_begun or loop.time() + delay >= deadline:
                    raise
                self._on_retry(Retry(error, delay, attempt))
                await asyncio.sleep(delay)
            else:
                return

    async def attempt(
        self,
        request: ChatRequest,
        response: ChatResponse,
        deadline: float,
        *,
        on_event: Callable[[TextEvent], None] = lambda _event: None,
    ) -> None:
        """Send a request, and send it again for each feature that the endpoint refuses.

        Args:
            request: The request.
            response: Filled in while the answer arrives.
            deadline: The time of the event loop's clock by which the answer must be complete.
            on_event: Called with each piece of text and reasoning as it arrives.

        Raises:
            ProviderError: There is no usable answer.
        """
        async with self._gate.open(request, response, deadline):
            async with self._mapped_errors(response, deadline, request.question.params):
                await self._adapt(request, response, on_event)
            response.finish()

    @cached_property
    def _translating_relay(self) -> "TranslatingRelay":
        # Only a server passes requests on; other commands start faster without these modules.
        from qacli.provider.relay import Relay
        from qacli.provider.translation.relay import TranslatingRelay

        settings, endpoint = self._settings, self.endpoint
        http_client, find_path = self._connection.http_client, self._connection.find_path
        relay = Relay(http_client, endpoint, settings, self._errors, find_path)
        return TranslatingRelay(relay, endpoint, settings, self._refused, self._on_notice)

    @cached_property
    def batch_api(self) -> "BatchApi":
        """The provider's Batch API."""
        from qacli.provider.batch_api import BatchApi

        http_client, find_path = self._connection.http_client, self._connection.find_path
        return BatchApi(http_client, self.endpoint, self._settings, self._errors, find_path)

    async def relay(
        self,
        request: "RawRequest",
        response: ChatResponse,
        *,
        on_event: "Callable[[RawEvent], None]",
        seconds: float | None = None,
    ) -> None:
        """Send a client's request, and hand on the response; see `TranslatingRelay.exchange`.

        Args:
            request: The request.
            response: See `ask`.
            on_event: Called with each part of the response.
            seconds: The time for the response.

        Raises:
            ProviderError: The response is an error, which was handed on, or is not complete.
        """
        seconds = self._settings.timeout if seconds is None else seconds
        deadline = asyncio.get_running_loop().time() + seconds
        async with (
            self._gate.open(request, response, deadline),
            self._mapped_errors(response, deadline, {}),
        ):
            await self._translating_relay.exchange(request, response, on_event)

    @asynccontextmanager
    async def _mapped_errors(
        self, response: ChatResponse, deadline: float, params: Mapping[str, Any]
    ) -> AsyncIterator[None]:
        """Begin an attempt: clear the response, limit the time and map the errors of the block."""
        response.reset()
        response.endpoint = self.endpoint.name
        response.think_tags = ThinkTagSplitter()
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as error:
            late = asyncio.get_running_loop().time() >= deadline
            raise (self._errors.total_timeout() if late else self._errors.idle_timeout()) from error
        except HANDLED_ERRORS as error:
            if isinstance(error, StatusError):
                response.headers = error.headers
            raise self._errors.map_error(error, params) from error

    async def _adapt(
        self,
        request: ChatRequest,
        response: ChatResponse,
        on_event: Callable[[TextEvent], None],
    ) -> None:
        """Send a request without the features that are refused; remember new refusals."""
        model = request.question.model
        params = request.question.params
        official = self.endpoint.is_openai
        # The local engine has one API.
        setting = self._settings.api if self.endpoint.weights is None else "chat"
        before = self._refused.get(self.endpoint.base_url, model)
        refused = before
        while True:
            name = choose_api(setting, params, refused, official=official)
            api = APIS[name]()
            body = api.build_body(request, refused, official=official)
            try:
                await self._exchange(api, body, response, on_event)
            except (StatusError, ErrorInAnswer) as error:
                feature = _refused_by(error, name, body)
                if feature is None or feature in refused or response.has_begun:
                    raise
                if refused | {feature} >= APIS.keys():
                    raise
                if feature is name and self._settings.api != "auto":
                    raise self._errors.needs_other_api(error) from error
                if feature is name and needs_responses(params):
                    raise self._errors.has_no_tools(error) from error
                refused |= {feature}
                response.reset()
            else:
                break
        if new := refused - before:
            self._refused.add(self.endpoint.base_url, model, new)
            for feature in sorted(new):
                self._on_notice(f"{model} at {self.endpoint.name} {MEANINGS[Feature(feature)]}.")

    async def _exchange(
        self,
        api: "Api",
        body: dict[str, Any],
        response: ChatResponse,
        on_event: Callable[[TextEvent], None],
    ) -> None:
        """Send a request and read its answer, streamed or in one piece, whichever comes."""
        # An answer in one piece comes when it is complete: the deadline is its only limit.
        silence = self._settings.first_token_timeout if body.get("stream") else None
        async with asyncio.timeout(silence):
            http = await self._connection.send(api.path, body)
        response.headers = http.headers
        reader = ResponseReader(api, response, on_event)
        try:
            await self._read(http, response, reader, silence)
        finally:
            await http.aclose()
        reader.close()
        response.require_text()

    async def _read(
        self,
        http: httpx2.Response,
        response: ChatResponse,
        reader: ResponseReader,
        silence: float | None,
    ) -> None:
        chunks = limited_bytes(http).__aiter__()
        while not response.is_done:
            limit = TRAILING_USAGE_TIMEOUT if response.ends_with_reason else silence
            try:
                async with asyncio.timeout(limit):
                    chunk = await anext(chunks, None)
            except (openai.APIConnectionError, httpx2.HTTPError, TimeoutError):
                if not response.has_ended and not reader.has_document:
                    raise
                return  # the answer was complete; a connection that breaks then costs nothing
            if chunk is None:
                return
            reader.feed(chunk)


def _refused_by(
    error: StatusError | ErrorInAnswer, api: Feature, body: dict[str, Any]
) -> Feature | None:
    """Return the feature that an error response refuses, which may be the API itself."""
    if isinstance(error, StatusError):
        status, fields = error.status, parse_error(error.body)
    else:
        status, fields = HTTPStatus.BAD_REQUEST, error.error
    return api if refuses_api(api, status, fields) else refused_feature(status, fields, body)
