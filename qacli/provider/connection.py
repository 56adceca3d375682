"""Send requests to an endpoint: find the path of its API, follow redirects."""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from qacli.provider.debug import format_request
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_mapping import ErrorMapper
from qacli.provider.refused_features import EVERY_MODEL, Feature, RefusedFeatures
from qacli.provider.response_reader import web_page_error
from qacli.provider.transport import (
    StatusError,
    follow_redirects,
    is_missing,
    limited_bytes,
    make_http_client,
    request_options,
    serves_no_api,
)

if TYPE_CHECKING:
    from qacli.errors import ProviderError


class Connection:
    """The connections to one endpoint, by the openai package's client.

    Args:
        endpoint: The provider's address and key.
        errors: Maps a redirect to another host.
        refused: Remembers that the base URL needs `/v1`.
        connect_seconds: The time limit for a connection.
        on_request: Called with each request in a readable form without secrets.
        on_notice: Called with a sentence about a base URL that needs `/v1`.
        connections: See `AsyncProvider`.

    Attributes:
        http_client: The HTTP client.
    """

    def __init__(  # noqa: PLR0913 - the parts of a connection, by name
        self,
        endpoint: Endpoint,
        errors: ErrorMapper,
        refused: RefusedFeatures,
        *,
        connect_seconds: float,
        on_request: Callable[[str], None] | None,
        on_notice: Callable[[str], None],
        connections: int | None,
    ) -> None:
        self._endpoint = endpoint
        self._errors = errors
        self._refused = refused
        self._on_notice = on_notice

        async def show(request: httpx2.Request) -> None:
            if on_request is not None:
                on_request(format_request(request, endpoint.secrets))

        self.http_client = make_http_client(
            endpoint,
            show if on_request is not None else None,
            connect_seconds=connect_seconds,
            connections=connections,
        )
        self._client = openai.AsyncOpenAI(
            api_key=endpoint.key or "none",
            base_url=endpoint.base_url,
            max_retries=0,
            http_client=self.http_client,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def send(self, path: str, body: dict[str, Any] | None) -> httpx2.Response:
        """Send a request and return the open response, a POST if there is a body."""
        return await self.find_path(path, lambda url_path: self._open(url_path, body))

    async def find_path(
        self, path: str, send: Callable[[str], Awaitable[httpx2.Response]]
    ) -> httpx2.Response:
        """Send a request, and send it again with `/v1` if the base URL does not serve the API.

        Args:
            path: The path below the base URL.
            send: Sends the request to a path and returns the open response.
        """
        missing = self._endpoint.missing_path
        base_url = self._endpoint.base_url
        if missing is None:
            return await send(path)
        if self._refused.get(base_url, EVERY_MODEL):
            return await send(missing + path)
        failure: StatusError | ProviderError
        try:
            response = await send(path)
            if not await serves_no_api(response):
                return response
            await response.aclose()
            failure = web_page_error()
        except StatusError as error:
            if not is_missing(error):
                raise
            failure = error
        try:
            response = await send(missing + path)
        except StatusError as error:
            if is_missing(error):
                raise failure from error
            raise
        if await serves_no_api(response):
            await response.aclose()
            raise failure
        self._refused.add(base_url, EVERY_MODEL, frozenset({Feature.BASE_URL}))
        self._on_notice(
            f"{self._endpoint.name} serves its API below {missing}, which is added to the base URL."
        )
        return response

    async def _open(self, path: str, body: dict[str, Any] | None) -> httpx2.Response:
        """Send a request, follow its redirects, and return the open response."""
        options = request_options(self._endpoint)

        async def send(url: str) -> httpx2.Response:
            stream = openai.AsyncStream[object]
            if body is None:
                opened = await self._client.get(
                    url, cast_to=object, options=options, stream=True, stream_cls=stream
                )
            else:
                opened = await self._client.post(
                    url, cast_to=object, body=body, options=options, stream=True, stream_cls=stream
                )
            return opened.response

        return await follow_redirects(self._endpoint.url(path), send, self._errors.redirected)

    async def json(self, path: str, body: dict[str, Any] | None) -> Any:  # noqa: ANN401 - any JSON
        """Send a request, a POST if there is a body; return the response as JSON."""
        response = await self.send(path, body)
        try:
            return json.loads(b"".join([chunk async for chunk in limited_bytes(response)]))
        finally:
            await response.aclose()
