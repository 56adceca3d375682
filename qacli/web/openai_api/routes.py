"""`/v1/chat/completions` and `/v1/models`."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from time import monotonic
from typing import Any

from flask import Blueprint, Response, current_app, jsonify
from pydantic import ValidationError

from qacli.errors import NotFound
from qacli.web import errors as problems
from qacli.web import sse, state
from qacli.web.answer import LiveAnswer
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
from qacli.web.openapi import JSON, describe
from qacli.web.openapi import ResponseSpec as Described
from qacli.web.request_context import keep_context

blueprint = Blueprint("v1", __name__, url_prefix="/v1")
blueprint.register_error_handler(ValidationError, errors.from_validation)

PATIENCE = 10.0
"""Seconds for which a stream is held back, so that an error can still be a status."""

ERROR = (JSON, ErrorResponse)
PROVIDER_ERRORS = (400, 404, 413, 422, 429, 502, 503, 504)


@blueprint.post("/chat/completions")
@describe(
    {200: Described("The answer.", {JSON: ChatCompletion, sse.MIME_TYPE: Event})},
    body=ChatCompletionRequest,
    errors=(415, *PROVIDER_ERRORS),
    error=ERROR,
)
def chat_completions() -> Response:
    """Ask as OpenAI's clients do; the answer is theirs, and the record is kept.

    What shapes the answer is passed on to the provider, known here or not. With `"stream": true`
    the answer comes in chunks, the last of them `[DONE]`. `X-Should-Retry: false` comes with an
    error where asking again is in vain.
    """
    data = ask.body()
    asked = parse_chat_request(data, state.get_state())
    beat = sse.KEEP_ALIVE_SECONDS if asked.streamed else None
    answer = LiveAnswer(state.get_state(), asked.ask, asked.request, beat=beat).begin()
    if asked.streamed:
        return sse.response(answer, _chunks(answer, asked))
    record = answer.result()
    said = {"role": "assistant", "content": record["answer"], "refusal": None}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": _finish(record)}
    return jsonify(
        {
            **_frame(asked, answer, "chat.completion"),
            "model": record["model"] or asked.ask.model,
            "choices": [choice],
            "usage": _usage(record),
            "record_id": record["id"],
        }
    )


@blueprint.get("/models")
@describe({200: Described("The models.", {JSON: Models})}, errors=(502, 503, 504), error=ERROR)
def models() -> dict[str, Any]:
    """The models that can be asked: the server's own first, then the provider's."""
    return {"object": "list", "data": _models()}


@blueprint.get("/models/<path:model>")
@describe({200: Described("The model.", {JSON: Model})}, errors=(404, 502, 503, 504), error=ERROR)
def model(model: str) -> dict[str, Any]:
    """One of the models that can be asked."""
    for each in _models():
        if each["id"] == model:
            return each
    raise NotFound(f"There is no model {model}.", "See GET /v1/models.")


def _models() -> list[dict[str, Any]]:
    return [
        {
            "id": found["id"],
            "object": "model",
            "created": found["created"] if isinstance(found.get("created"), int) else 0,
            "owned_by": owner if isinstance(owner := found.get("owned_by"), str) else "provider",
        }
        for found in state.get_state().models()
    ]


def _chunks(answer: LiveAnswer, asked: ParsedRequest) -> Iterator[str]:
    """The answer as chunks; what fails at once fails before the first of them."""
    dumps = partial(current_app.json.dumps, separators=(",", ":"))
    in_request = keep_context()
    frame = {**_frame(asked, answer, "chat.completion.chunk"), "model": asked.ask.model}
    if asked.with_usage:
        frame["usage"] = None

    def chunk(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data(dumps({**frame, "choices": [choice]}))

    def lines(texts: Iterator[str]) -> Iterator[str]:
        yield chunk({"role": "assistant", "content": ""})
        try:
            for text in texts:
                yield chunk({"content": text}) if text else sse.KEEP_ALIVE
        except Exception as error:  # noqa: BLE001 - the client is told; a mistake is logged
            with in_request():
                problem = problems.problem_for(error)
            yield _data(dumps(errors.openai_error(problem)))
            return
        record = answer.to_dict()
        yield chunk({}, _finish(record))
        if asked.with_usage:
            yield _data(dumps({**frame, "choices": [], "usage": _usage(record)}))
        yield _data("[DONE]")

    return lines(_begun(iter(answer)))


def _begun(texts: Iterator[str]) -> Iterator[str]:
    """The texts, once the first has come, or long enough has been waited for it."""
    end = monotonic() + PATIENCE
    for text in texts:
        if text or monotonic() > end:
            return chain([text], texts)
    return texts


def _frame(asked: ParsedRequest, answer: LiveAnswer, kind: str) -> dict[str, Any]:
    created = int(answer.created_at.timestamp())
    return {"id": f"chatcmpl-{asked.ask.uid}", "object": kind, "created": created}


def _finish(record: dict[str, Any]) -> str:
    return str(record["finish_reason"] or "stop")


def _usage(record: dict[str, Any]) -> dict[str, int] | None:
    asked, answered = record["prompt_tokens"], record["completion_tokens"]
    if asked is None or answered is None:
        return None
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
    }


def _data(text: str) -> str:
    return f"data: {text}\n\n"
