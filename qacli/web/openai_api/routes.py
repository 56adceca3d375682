"""Routes of the OpenAI-compatible API below `/v1`.

Requests go to the provider as they are, and its responses come back as they are; each request for
an answer is a record. See docs/http-api.md.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request
from pydantic import ValidationError

from qacli.domain import ChatRequest
from qacli.errors import NotFound
from qacli.provider.translation.untranslatable import Untranslatable
from qacli.web import idempotency, sse, state
from qacli.web.answer import start_request
from qacli.web.api import ask
from qacli.web.api.responses import Event
from qacli.web.api.schemas import KeyHeaders
from qacli.web.multipart import text_fields
from qacli.web.openai_api import errors, stored_responses
from qacli.web.openai_api.parse import (
    CHAT,
    COMPLETIONS,
    RESPONSES,
    dump_body,
    parse_body,
    parse_request,
    raw_request,
    with_model,
)
from qacli.web.openai_api.relay import (
    chat_error_event,
    relay_response,
    responses_error_event,
)
from qacli.web.openai_api.replay import (
    replay_completion,
    replay_model_response,
    replay_response,
)
from qacli.web.openai_api.schemas import (
    ChatCompletion,
    ChatCompletionRequest,
    Completion,
    CompletionRequest,
    EmbeddingRequest,
    Embeddings,
    ErrorResponse,
    Model,
    ModelResponse,
    Models,
    ResponseRequest,
)
from qacli.web.openapi import JSON, ResponseSpec, openapi_operation
from qacli.web.route_policy import policy

if TYPE_CHECKING:
    from flask import Flask

    from qacli.config.settings import Settings

blueprint = Blueprint("v1", __name__, url_prefix="/v1")
blueprint.register_error_handler(ValidationError, errors.from_validation)
blueprint.register_error_handler(Untranslatable, errors.from_untranslatable)
blueprint.register_blueprint(stored_responses.blueprint)

ERROR = (JSON, ErrorResponse)
PROVIDER_ERRORS = (400, 404, 409, 413, 422, 429, 502, 503, 504)
RECORDED = ["X-QA-Record"]
REPLAYS = {
    CHAT: replay_response,
    COMPLETIONS: replay_completion,
    RESPONSES: replay_model_response,
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

View = Callable[..., Any]


def _route(path: str, method: str = "POST") -> Callable[[View], View]:
    """Return a decorator for a view at a path."""
    return blueprint.route(path, methods=[method])


@_route("/chat/completions")
@openapi_operation(
    {200: ResponseSpec("The answer.", {JSON: ChatCompletion, sse.MIME_TYPE: Event}, RECORDED)},
    body=ChatCompletionRequest,
    headers=KeyHeaders,
    errors=(415, *PROVIDER_ERRORS),
    error=ERROR,
)
def chat_completions() -> Response:
    """Ask a question in the format of OpenAI's API; it is recorded.

    The provider gets the request as it is, with all fields, and its response comes back as it is,
    also its errors. A model that is left out, or `default`, is the server's own. A second request
    of the same caller with the same `Idempotency-Key` and body returns the first answer.
    """
    return _recorded(CHAT)


@_route("/responses")
@openapi_operation(
    {200: ResponseSpec("The response.", {JSON: ModelResponse, sse.MIME_TYPE: Event}, RECORDED)},
    body=ResponseRequest,
    headers=KeyHeaders,
    errors=(415, *PROVIDER_ERRORS),
    error=ERROR,
)
def responses() -> Response:
    """Ask a question in the format of OpenAI's Responses API; it is recorded.

    As `/v1/chat/completions`. Where the provider only has Chat Completions, the request and its
    response are translated, and `previous_response_id` is answered from the history.
    """
    return _recorded(RESPONSES)


@_route("/completions")
@openapi_operation(
    {200: ResponseSpec("The text.", {JSON: Completion, sse.MIME_TYPE: Event}, RECORDED)},
    body=CompletionRequest,
    headers=KeyHeaders,
    errors=(415, *PROVIDER_ERRORS),
    error=ERROR,
)
def completions() -> Response:
    """Complete a text, at a provider that has this older API; it is recorded."""
    return _recorded(COMPLETIONS)


@_route("/embeddings")
@openapi_operation(
    {200: ResponseSpec("The vectors.", {JSON: Embeddings})},
    body=EmbeddingRequest,
    errors=(415, *PROVIDER_ERRORS),
    error=ERROR,
)
def embeddings() -> Response:
    """Return the vectors of texts; the request is logged, and not recorded."""
    app_state = state.get_state()
    data = ask.body(app_state.max_body)
    body = parse_body(data)
    sent = with_model(body, app_state)
    raw = raw_request("/embeddings", dump_body(sent, body, data), sent)
    return relay_response(app_state.relay(raw))


@_route("/models", "GET")
@openapi_operation(
    {200: ResponseSpec("The models.", {JSON: Models})}, errors=(502, 503, 504), error=ERROR
)
def models() -> dict[str, Any]:
    """List the models: the server's default first, then those of its providers."""
    return {"object": "list", "data": _models()}


@_route("/models/<path:model>", "GET")
@openapi_operation(
    {200: ResponseSpec("The model.", {JSON: Model})}, errors=(404, 502, 503, 504), error=ERROR
)
def model(model: str) -> dict[str, Any]:
    """Return one of the models."""
    for item in _models():
        if item["id"] == model:
            return item
    raise NotFound(f"There is no model {model}.", "See GET /v1/models.")


def init_app(app: "Flask", settings: "Settings") -> None:
    """Add the routes; with QA_PASSTHROUGH also one for all other paths."""
    app.url_map.converters["response_id"] = stored_responses.ResponseIdConverter
    app.register_blueprint(blueprint)
    if settings.passthrough:
        app.add_url_rule("/v1/<path:path>", "v1.passthrough", passthrough, methods=METHODS)


@policy(limited_methods=frozenset(METHODS) - {"GET"})
@openapi_operation(
    {200: ResponseSpec("The response of the provider.")}, errors=PROVIDER_ERRORS, error=ERROR
)
def passthrough(path: str) -> Response:
    """Pass a request on to the provider, with the server's key; it is logged, and not recorded."""
    app_state = state.get_state()
    data = ask.raw_body(app_state.max_body)
    body: dict[str, Any] | None = None
    if data and app_state.providers.upstreams.names:
        if request.is_json:
            body = parse_body(data)
        else:
            fields = text_fields(data, request.content_type or "")
            body = {"model": fields.get("model"), "stream": fields.get("stream") == "true"}
    raw = raw_request(f"/{path}", data, body, method=request.method)
    heartbeat = (
        sse.KEEP_ALIVE_SECONDS if sse.MIME_TYPE in request.headers.get("Accept", "") else None
    )
    return relay_response(app_state.relay(raw, heartbeat_seconds=heartbeat))


def _recorded(path: str) -> Response:
    """Record a request, pass it on and return the response."""
    app_state = state.get_state()
    data = ask.body(app_state.max_body)
    headers = KeyHeaders.model_validate(dict(request.headers))
    parsed = parse_request(path, data, app_state)
    question = replace(parsed.question, idempotency_key=headers.idempotency_key)
    heartbeat = sse.KEEP_ALIVE_SECONDS if parsed.raw.is_streamed else None
    start = partial(
        start_request,
        app_state,
        question,
        ChatRequest(question=question, raw=parsed.raw),
        heartbeat_seconds=heartbeat,
    )
    answer = idempotency.begin_or_replay(app_state, question, start, heartbeat_seconds=heartbeat)
    if isinstance(answer, idempotency.ReplayedAnswer):
        return REPLAYS[path](
            answer, is_streamed=parsed.raw.is_streamed, with_usage=parsed.with_usage
        )
    return relay_response(answer, responses_error_event if path == RESPONSES else chat_error_event)


def _models() -> list[dict[str, Any]]:
    return [
        {
            "id": item["id"],
            "object": "model",
            "created": item["created"] if isinstance(item.get("created"), int) else 0,
            "owned_by": owner if isinstance(owner := item.get("owned_by"), str) else "provider",
        }
        for item in state.get_state().models()
    ]
