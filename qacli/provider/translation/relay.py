"""Pass a client's request on, translated where the provider has the other API only."""

import json
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from qacli.config.settings import Settings
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_body import parse_error
from qacli.provider.refused_features import (
    MEANINGS,
    REFUSING_STATUS,
    Feature,
    RefusedFeatures,
    refused_feature,
    refuses_api,
)
from qacli.provider.relay import RawEvent, Relay
from qacli.provider.response import ChatResponse
from qacli.provider.responses_api import ResponsesApi
from qacli.provider.translation.chat_request import build_chat_request
from qacli.provider.translation.chat_writer import ChatWriter
from qacli.provider.translation.response import ResponseTranslator, Writer
from qacli.provider.translation.responses_request import build_responses_request
from qacli.provider.translation.responses_writer import ResponsesWriter
from qacli.provider.translation.stored import RESPONSE_PREFIX, TRANSLATED_TO
from qacli.provider.translation.untranslatable import NO_SUCH_RESPONSE, Untranslatable
from qacli.provider.transport import StatusError
from qacli.raw_request import RawRequest, ResponseBytes, ResponseEnd, ResponseHead

if TYPE_CHECKING:
    from qacli.provider.api import Api

OnEvent = Callable[[RawEvent], None]

PATHS = {Feature.CHAT_COMPLETIONS: ChatCompletions.path, Feature.RESPONSES: ResponsesApi.path}
APIS = {path: feature for feature, path in PATHS.items()}
OTHER = {
    Feature.CHAT_COMPLETIONS: Feature.RESPONSES,
    Feature.RESPONSES: Feature.CHAT_COMPLETIONS,
}
ADDED_HERE = frozenset(
    {
        *(Feature.STREAM_OPTIONS, Feature.REASONING_SUMMARY, Feature.INCLUDE),
        *(Feature.MAX_TOKENS, Feature.MAX_COMPLETION_TOKENS),
    }
)
"""The features that a translation adds or names; it is sent again without a refused one."""


class TranslatingRelay:
    """Sends the requests of clients to an endpoint by the API that it has for the model.

    Args:
        relay: Sends a request as it is.
        endpoint: The provider.
        settings: Its `api` chooses the API; `auto` takes the client's own until it is refused.
        refused: The features that the endpoint refuses.
        on_notice: Called with a sentence about an API that the endpoint refuses.
    """

    def __init__(
        self,
        relay: Relay,
        endpoint: Endpoint,
        settings: Settings,
        refused: RefusedFeatures,
        on_notice: Callable[[str], None],
    ) -> None:
        self._relay = relay
        self._endpoint = endpoint
        # The local engine has one API.
        self._setting = settings.api if endpoint.weights is None else "chat"
        self._refused = refused
        self._on_notice = on_notice

    async def exchange(
        self, request: RawRequest, response: ChatResponse, on_event: OnEvent
    ) -> None:
        """Send a request, and hand on the response; see `Relay.exchange`.

        Raises:
            Exception: See `Relay.exchange`.
            Untranslatable: The endpoint needs the other API, which cannot express the request; the
                error was handed on as a response with status 400.
        """
        own = APIS.get(request.path)
        if own is None or request.method != "POST":
            await self._relay.exchange(request, response, on_event)
            return
        known = self._refused.get(self._endpoint.base_url, request.model)
        if self._setting != "auto":
            chosen = Feature.CHAT_COMPLETIONS if self._setting == "chat" else Feature.RESPONSES
        else:
            chosen = OTHER[own] if own in known and OTHER[own] not in known else own
        if chosen is not own:
            await self._translated(request, response, on_event, known)
            return
        held = _HeldErrors(on_event)
        has_none = Feature.PREVIOUS_RESPONSE_ID in known and bool(request.history)
        needs_history = request.needs_history or has_none
        direct = replace(request, body=request.history) if needs_history else request
        try:
            await self._relay.exchange(direct, response, held)
        except StatusError as error:
            first = error
        else:
            return
        is_unknown = not needs_history and _is_about_previous(request, first)
        if is_unknown and request.history:
            await self.exchange(replace(request, needs_history=True), response, on_event)
            if _keeps_none(request, first, self._endpoint.name):
                refused = frozenset({Feature.PREVIOUS_RESPONSE_ID})
                self._refused.add(self._endpoint.base_url, request.model, refused)
            return
        if is_unknown or OTHER[own] in known or not self._refuses(own, first):
            held.release()
            raise first
        await self._other_api(request, response, on_event, known | {own}, (held, first))

    async def _other_api(
        self,
        request: RawRequest,
        response: ChatResponse,
        on_event: OnEvent,
        refused: frozenset[Feature],
        refusal: "tuple[_HeldErrors, StatusError]",
    ) -> None:
        """Send a request by the other API; if that is refused too, return the first error."""
        own = APIS[request.path]
        held, first = refusal
        second = _HeldErrors(on_event)
        try:
            await self._translated(request, response, second, refused)
        except StatusError as error:
            if refuses_api(OTHER[own], error.status, parse_error(error.body)):
                held.release()
                raise first from error
            second.release()
            raise
        except Untranslatable:
            second.release()
            raise
        self._remember(request.model, own)

    async def _translated(
        self,
        request: RawRequest,
        response: ChatResponse,
        on_event: OnEvent,
        refused: frozenset[Feature],
    ) -> None:
        """Send a request by the other API, and again without the fields that qa has added."""
        body = json.loads(request.history or request.body)
        while True:
            sent = self._translate(request.path, body, refused, on_event)
            response.add_detail(TRANSLATED_TO, OTHER[APIS[request.path]].value)
            other = RawRequest(
                path=PATHS[OTHER[APIS[request.path]]],
                body=json.dumps(sent, separators=(",", ":")).encode(),
                headers=request.headers,
                query=request.query,
                is_streamed=request.is_streamed,
                model=request.model,
            )
            writer = _writer(request, json.loads(request.body))
            held = _HeldErrors(_Translated(other.path, writer, on_event, request.is_streamed))
            try:
                await self._relay.exchange(other, response, held)
            except StatusError as error:
                feature = refused_feature(error.status, parse_error(error.body), sent)
                if feature not in ADDED_HERE - refused:
                    held.release(on_event)
                    raise
                refused |= {feature}
            else:
                return

    def _translate(
        self, path: str, body: dict[str, Any], refused: frozenset[Feature], on_event: OnEvent
    ) -> dict[str, Any]:
        try:
            if APIS[path] is Feature.RESPONSES:
                return build_chat_request(body, refused, official=self._endpoint.is_openai)
            return build_responses_request(body, refused)
        except Untranslatable as error:
            headers = [("content-type", "application/json"), ("x-should-retry", "false")]
            on_event(ResponseHead(HTTPStatus.BAD_REQUEST, headers))
            on_event(ResponseBytes(json.dumps(error.to_dict()).encode()))
            on_event(ResponseEnd())
            raise

    def _refuses(self, api: Feature, error: StatusError) -> bool:
        """Return whether an error says that the other API is needed, and it may be used."""
        return self._setting == "auto" and refuses_api(api, error.status, parse_error(error.body))

    def _remember(self, model: str, api: Feature) -> None:
        self._refused.add(self._endpoint.base_url, model, frozenset({api}))
        self._on_notice(f"{model} at {self._endpoint.name} {MEANINGS[api]}.")


class _HeldErrors:
    """Hands on the events of a response with success, and keeps those of an error."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._events: list[RawEvent] = []

    def __call__(self, event: RawEvent) -> None:
        is_error = isinstance(event, ResponseHead) and event.status >= HTTPStatus.BAD_REQUEST
        if is_error or self._events:
            self._events.append(event)
        else:
            self._on_event(event)

    def release(self, on_event: OnEvent | None = None) -> None:
        """Hand on the events of the error, to `on_event` in place of the usual receiver."""
        for event in self._events:
            (on_event or self._on_event)(event)
        self._events.clear()


class _Translated:
    """Hands on the events of a response with the bytes of the client's API."""

    def __init__(self, path: str, writer: Writer, on_event: OnEvent, is_streamed: bool) -> None:  # noqa: FBT001 - of the request
        api: Api = ChatCompletions() if APIS[path] is Feature.CHAT_COMPLETIONS else ResponsesApi()
        self._translator = ResponseTranslator(api, writer, is_streamed=is_streamed)
        self._on_event = on_event
        kind = "text/event-stream; charset=utf-8" if is_streamed else "application/json"
        self._type = ("content-type", kind)

    def __call__(self, event: RawEvent) -> None:
        match event:
            case ResponseHead(status, headers):
                rest = [item for item in headers if item[0].lower() != "content-type"]
                event = ResponseHead(status, [*rest, self._type])
            case ResponseBytes(data, is_last):
                try:
                    event = ResponseBytes(self._translator.feed(data), is_last)
                except Exception:
                    # The text before an error may have come in the same piece.
                    self._on_event(ResponseBytes(self._translator.take()))
                    raise
                if not event.data:
                    return
            case ResponseEnd():
                if data := self._translator.close():
                    self._on_event(ResponseBytes(data, is_last=True))
        self._on_event(event)


def _is_about_previous(request: RawRequest, error: StatusError) -> bool:
    """Return whether an error says that the provider does not have an earlier response."""
    if request.path != ResponsesApi.path or error.status not in REFUSING_STATUS:
        return False
    response_id = json.loads(request.body).get("previous_response_id")
    if not isinstance(response_id, str) or not response_id:
        return False
    fields = parse_error(error.body)
    return (
        "previous_response_id" in {fields.param, fields.code}
        or fields.code == NO_SUCH_RESPONSE
        or "previous_response_id" in fields.message
        or response_id in fields.message
    )


def _keeps_none(request: RawRequest, error: StatusError, endpoint: str) -> bool:
    """Return whether an error shows that the endpoint keeps no responses at all.

    It refuses the id of one, or does not have a response that it has just sent.
    """
    sent = {Feature.PREVIOUS_RESPONSE_ID.value: True}
    feature = refused_feature(error.status, parse_error(error.body), sent)
    return feature is Feature.PREVIOUS_RESPONSE_ID or request.kept_by == endpoint


def _writer(request: RawRequest, body: dict[str, Any]) -> Writer:
    """Return the writer of the client's API."""
    if APIS[request.path] is Feature.RESPONSES:
        return ResponsesWriter(
            f"{RESPONSE_PREFIX}{request.uid}",
            body,
            request.created,
            request.model,
            key=request.uid,
        )
    options = body.get("stream_options")
    with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return ChatWriter(
        f"chatcmpl-{request.uid}", request.created, request.model, with_usage=with_usage
    )
