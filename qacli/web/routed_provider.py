"""The upstreams of one question: the next one is asked where one is overloaded or away.

A client gets nothing of an upstream that failed, so another one is asked only before a byte of the
answer has come.
"""

import json
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from http import HTTPStatus
from time import monotonic
from typing import Any

from qacli.config.settings import Settings
from qacli.config.upstreams import Target
from qacli.domain import ChatRequest, Heartbeat
from qacli.errors import NotConfigured, ProviderError, ProviderUnavailable, QaError
from qacli.model_options import merge_params
from qacli.provider.relay import RawEvent
from qacli.provider.response import ChatResponse, TextEvent
from qacli.provider.sync import SyncProvider
from qacli.raw_request import RawRequest, RelayEvent, ResponseBytes, ResponseEnd, ResponseHead
from qacli.web.multipart import MIME_TYPE, with_field

LOG = logging.getLogger("qa.web")
UPSTREAM, TRIED = "upstream", "tried_upstreams"
"""The details of a record: the upstream that answered, and those that were asked before it."""

Events = Generator[RawEvent | Heartbeat]


@dataclass(frozen=True, slots=True)
class Route:
    """A model of an upstream.

    Attributes:
        target: The upstream and the model.
        provider: Returns the provider; raises NotConfigured where it cannot be used.
        settings: The settings of the upstream.
    """

    target: Target
    provider: Callable[[], SyncProvider]
    settings: Settings


class RoutedProvider:
    """The upstreams of one question, asked one after the other until one of them answers.

    Args:
        model: The name of the model in the request.
        routes: The upstreams in their order.
    """

    def __init__(self, model: str, routes: Sequence[Route]) -> None:
        self._model = model
        self._routes = routes

    def stream(
        self,
        request: ChatRequest,
        response: ChatResponse,
        *,
        on_arrival: Callable[[TextEvent], None] = lambda _event: None,
        heartbeat_seconds: float | None = None,
        deltas: bool = True,
    ) -> Events:
        """Ask; see `SyncProvider.stream`. Only the last upstream is asked again after an error.

        The details of the response get the upstream that answered, and those that were tried.

        Raises:
            ProviderError: The error of the last upstream that was asked.
            NotConfigured: The last upstream cannot be used.
        """

        def send(place: int, provider: SyncProvider, model: str, seconds: float) -> Events:
            return provider.stream(
                self._question_for(request, place, model)
                if request.raw is None
                else replace(request, raw=self._raw_for(request.raw, place, model)),
                response,
                on_arrival=on_arrival,
                heartbeat_seconds=heartbeat_seconds,
                deltas=deltas,
                seconds=seconds,
                retries=None if place == len(self._routes) - 1 else 0,
            )

        yield from self._ask_each(send, response)

    def relay(
        self, request: RawRequest, *, heartbeat_seconds: float | None = None
    ) -> Generator[RelayEvent | Heartbeat]:
        """Send a client's request; see `SyncProvider.relay`.

        Raises:
            ProviderError: See `stream`.
            NotConfigured: The last upstream cannot be used.
        """

        def send(place: int, provider: SyncProvider, model: str, seconds: float) -> Events:
            yield from provider.relay(
                self._raw_for(request, place, model),
                heartbeat_seconds=heartbeat_seconds,
                seconds=seconds,
            )

        for event in self._ask_each(send, ChatResponse()):
            if isinstance(event, ResponseHead | ResponseBytes | ResponseEnd | Heartbeat):
                yield event

    def _ask_each(
        self, send: Callable[[int, SyncProvider, str, float], Events], response: ChatResponse
    ) -> Events:
        end = monotonic() + self._routes[0].settings.timeout
        tried: list[dict[str, Any]] = []
        place = 0
        try:
            while True:
                route, is_last = self._routes[place], place == len(self._routes) - 1
                gate = _Gate(is_open=is_last)
                try:
                    provider = route.provider()
                    model = route.target.model or provider.endpoint.model
                    with closing(send(place, provider, model, end - monotonic())) as events:
                        for event in events:
                            yield from gate.pass_on(event)
                except QaError as error:
                    has_begun = gate.is_open or response.has_begun
                    if has_begun or not _is_away(error) or monotonic() >= end:
                        yield from gate.release()
                        raise
                    tried.append(_describe(route.target, error))
                    name = route.target.upstream
                    LOG.warning("the next upstream is asked after %s: %s", name, error.what)
                    place += 1
                else:
                    return
        finally:
            response.add_detail(UPSTREAM, route.target.upstream)
            response.add_detail(TRIED, tried)

    def _question_for(self, request: ChatRequest, place: int, model: str) -> ChatRequest:
        """Return the request with the model and the extra fields of an upstream."""
        params = request.question.params
        first, settings = self._routes[0].settings, self._routes[place].settings
        if settings is not first:
            extra = first.extra_body
            params = {
                name: value
                for name, value in params.items()
                if name not in extra or extra[name] != value
            }
            params = merge_params(params, settings.extra_body)
        question = replace(request.question, params={**params, "model": model})
        return replace(request, question=question)

    def _raw_for(self, raw: RawRequest, place: int, model: str) -> RawRequest:
        """Return the request with an upstream's model; the same bytes if the name is the same."""
        # Only the first one can have the earlier responses of the conversation.
        raw = replace(raw, needs_history=raw.needs_history or (place > 0 and bool(raw.history)))
        if not raw.model or model == raw.model:
            return raw
        content_type = raw.headers.get("Content-Type", "")
        if content_type.lower().startswith(MIME_TYPE):
            body = with_field(raw.body, content_type, "model", model)
            return replace(raw, model=model, body=body)
        body, history = (_with_model(data, model) for data in (raw.body, raw.history))
        return replace(raw, model=model, body=body, history=history)


class _Gate:
    """Holds back the head of a response, and an error, while another upstream can be asked.

    Args:
        is_open: Hand on all events at once.
    """

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self._held: list[RawEvent] = []
        self._is_error = False

    def pass_on(self, event: RawEvent | Heartbeat) -> Events:
        """Yield the events that the client gets now."""
        if isinstance(event, Heartbeat) or self.is_open:
            yield event
        elif isinstance(event, ResponseHead) or self._is_error:
            self._held.append(event)
            if isinstance(event, ResponseHead):
                self._is_error = event.status >= HTTPStatus.BAD_REQUEST
        else:
            yield from self.release()
            yield event

    def release(self) -> Events:
        """Yield the held events, and hold no more."""
        self.is_open = True
        yield from self._held
        self._held.clear()


def _is_away(error: QaError) -> bool:
    """Return whether an error is about the upstream, its key or its account: another may answer."""
    if isinstance(error, ProviderError) and error.fatal:
        return True
    return isinstance(error, NotConfigured | ProviderUnavailable)


def _describe(target: Target, error: QaError) -> dict[str, Any]:
    """Return the details of a record about an upstream that was tried."""
    status = error.provider_status if isinstance(error, ProviderError) else None
    tried = {"upstream": target.upstream, "model": target.model, "status": status}
    tried |= {"kind": error.kind, "error": error.what}
    return {name: value for name, value in tried.items() if value}


def _with_model(data: bytes, model: str) -> bytes:
    """Return the body of a request with another model; an empty one stays so."""
    if not data:
        return data
    return json.dumps({**json.loads(data), "model": model}, separators=(",", ":")).encode()
