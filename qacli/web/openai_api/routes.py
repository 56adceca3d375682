"""Routes of the OpenAI-compatible API: `/v1/chat/completions` and `/v1/models`."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from time import monotonic
from typing import Any

from flask import Blueprint, Response, current_app, jsonify
from pydantic import ValidationError

from qacli.domain import (
    AnswerEvent,
    Delta,
    Failed,
    Finished,
    Heartbeat,
    Outcome,
    ReasoningDelta,
)
from qacli.errors import NotFound
from qacli.web import errors as problems
from qacli.web import sse, state
from qacli.web.answer import AnswerStream, start_request
from qacli.web.api import ask
from qacli.web.api.responses import Event
from qacli.web.openai_api import errors
from qacli.web.openai_api.parse import ParsedRequest, parse_chat_request
from qacli.web.openai_api.schemas import (
    ChatCompletion,
    ChatCompletionRequest,
    ErrorResponse,
    Model,
    Models,
)
from qacli.web.openapi import JSON, ResponseSpec, describe
from qacli.web.request_context import keep_context

blueprint = Blueprint("v1", __name__, url_prefix="/v1")
blueprint.register_error_handler(ValidationError, errors.from_validation)

HOLD_BACK_SECONDS = 10.0
"""Maximum seconds to delay the response of a stream, so that an early error gets its status."""

FIELDS = {Delta: "content", ReasoningDelta: "reasoning_content"}
"""The field of a chunk for each event with text; reasoning is where DeepSeek and vLLM have it."""

ERROR = (JSON, ErrorResponse)
PROVIDER_ERRORS = (400, 404, 413, 422, 429, 502, 503, 504)


@blueprint.post("/chat/completions")
@describe(
    {200: ResponseSpec("The answer.", {JSON: ChatCompletion, sse.MIME_TYPE: Event})},
    body=ChatCompletionRequest,
    errors=(415, *PROVIDER_ERRORS),
    error=ERROR,
)
def chat_completions() -> Response:
    """Ask a question in the format of OpenAI's API; it is recorded.

    Fields that this server does not know are passed on to the provider. With `"stream": true`
    the answer comes in chunks; the last one is `[DONE]`. An error has the header
    `X-Should-Retry: false` if asking again cannot help.
    """
    app_state = state.get_state()
    parsed = parse_chat_request(ask.body(), app_state)
    heartbeat = sse.KEEP_ALIVE_SECONDS if parsed.streamed else None
    answer = start_request(app_state, parsed.question, parsed.request, heartbeat_seconds=heartbeat)
    if parsed.streamed:
        return sse.response(answer, _chunks(answer, parsed))
    result = answer.result()
    outcome = result.outcome
    choice = {
        "index": 0,
        "message": _message(outcome),
        "logprobs": None,
        "finish_reason": _finish(outcome),
    }
    return jsonify(
        {
            **_frame(parsed, "chat.completion"),
            "model": outcome.model or parsed.question.model,
            "choices": [choice],
            "usage": _usage(outcome),
            "record_id": result.record_id,
        }
    )


@blueprint.get("/models")
@describe({200: ResponseSpec("The models.", {JSON: Models})}, errors=(502, 503, 504), error=ERROR)
def models() -> dict[str, Any]:
    """List the models: the server's default first, then the provider's."""
    return {"object": "list", "data": _models()}


@blueprint.get("/models/<path:model>")
@describe(
    {200: ResponseSpec("The model.", {JSON: Model})}, errors=(404, 502, 503, 504), error=ERROR
)
def model(model: str) -> dict[str, Any]:
    """Return one of the models."""
    for item in _models():
        if item["id"] == model:
            return item
    raise NotFound(f"There is no model {model}.", "See GET /v1/models.")


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


def _chunks(answer: AnswerStream, parsed: ParsedRequest) -> Iterator[str]:
    """Return the chunks of the answer as server-sent events.

    Raises:
        QaError: The answer failed before its first text arrived.
    """
    dumps = partial(current_app.json.dumps, separators=(",", ":"))
    in_request = keep_context()
    frame = {**_frame(parsed, "chat.completion.chunk"), "model": parsed.question.model}
    if parsed.with_usage:
        frame["usage"] = None

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data(dumps({**frame, "choices": [choice]}))

    def lines(events: Iterator[AnswerEvent]) -> Iterator[str]:
        yield chunk({"role": "assistant", "content": ""})
        for item in events:
            match item:
                case Delta(text) | ReasoningDelta(text):
                    yield chunk({FIELDS[type(item)]: text})
                case Heartbeat():
                    yield sse.KEEP_ALIVE
                case Failed(error):
                    with in_request():
                        problem = problems.problem_for(error)
                    yield _data(dumps(errors.openai_error(problem)))
                case Finished(result):
                    yield chunk(_annotations(result.outcome), _finish(result.outcome))
                    if parsed.with_usage:
                        usage = _usage(result.outcome)
                        yield _data(dumps({**frame, "choices": [], "usage": usage}))
                    yield _data("[DONE]")

    return lines(_hold_back(iter(answer)))


def _hold_back(events: Iterator[AnswerEvent]) -> Iterator[AnswerEvent]:
    """Wait for the first text or reasoning, at most `HOLD_BACK_SECONDS`, then return the events.

    Raises:
        QaError: The answer failed before that.
    """
    end = monotonic() + HOLD_BACK_SECONDS
    for item in events:
        if isinstance(item, Failed):
            raise item.error
        if isinstance(item, Delta | ReasoningDelta | Finished) or monotonic() > end:
            return chain([item], events)
    return events


def _frame(parsed: ParsedRequest, kind: str) -> dict[str, Any]:
    created = int(parsed.question.created_at.timestamp())
    return {"id": f"chatcmpl-{parsed.question.uid}", "object": kind, "created": created}


def _finish(outcome: Outcome) -> str:
    return outcome.finish_reason or "stop"


def _message(outcome: Outcome) -> dict[str, Any]:
    """Return the message with the answer, and its reasoning and citations if there are any."""
    message: dict[str, Any] = {"role": "assistant", "content": outcome.answer, "refusal": None}
    if outcome.reasoning is not None:
        message[FIELDS[ReasoningDelta]] = outcome.reasoning
    return {**message, **_annotations(outcome)}


def _annotations(outcome: Outcome) -> dict[str, Any]:
    """Return the citations of an answer as a field of its message; no field if there are none."""
    values = outcome.details.get("annotations")
    items = values if isinstance(values, list) else []
    annotations = [item for item in items if isinstance(item, dict)]
    return {"annotations": annotations} if annotations else {}


def _usage(outcome: Outcome) -> dict[str, Any] | None:
    prompt, completion = outcome.prompt_tokens, outcome.completion_tokens
    if prompt is None or completion is None:
        return None
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if outcome.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": outcome.cached_tokens}
    if outcome.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": outcome.reasoning_tokens}
    return usage


def _data(text: str) -> str:
    return f"data: {text}\n\n"
