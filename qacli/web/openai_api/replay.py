"""Answer a repeated `Idempotency-Key` in OpenAI's format, from the record of the first request."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from flask import Response, current_app, jsonify

from qacli.domain import AnswerEvent, Failed, Finished, Heartbeat, Outcome, Result
from qacli.web import errors as problems
from qacli.web import sse
from qacli.web.answer import AnswerStream
from qacli.web.openai_api import errors
from qacli.web.openai_api.relay import with_record
from qacli.web.request_context import keep_context


def replay_response(answer: AnswerStream, *, is_streamed: bool, with_usage: bool) -> Response:
    """Return a recorded answer as a chat completion, or as the chunks of one.

    Args:
        answer: The recorded answer; it may be still arriving for the first request.
        is_streamed: Return chunks.
        with_usage: The last chunk has the usage.

    Raises:
        QaError: The first request has no answer.
    """
    if is_streamed:
        return with_record(sse.response(answer, _chunks(answer, with_usage=with_usage)))
    result = answer.result()
    message = {"role": "assistant", **_message(result.outcome), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(result)}
    frame = _frame(result, "chat.completion")
    return with_record(jsonify({**frame, "choices": [choice], "usage": _usage(result.outcome)}))


def _chunks(answer: AnswerStream, *, with_usage: bool) -> Iterator[str]:
    dumps = partial(current_app.json.dumps, separators=(",", ":"))
    in_request = keep_context()

    def data(value: object) -> str:
        return f"data: {dumps(value)}\n\n"

    def lines(events: Iterator[AnswerEvent]) -> Iterator[str]:
        for item in events:
            match item:
                case Heartbeat():
                    yield sse.KEEP_ALIVE
                case Failed(error):
                    with in_request():
                        problem = problems.problem_for(error)
                    yield data(errors.openai_error(problem))
                case Finished(result):
                    yield from map(data, _chunk_objects(result, with_usage=with_usage))
                    yield "data: [DONE]\n\n"

    return lines(iter(answer))


def _chunk_objects(result: Result, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    frame = _frame(result, "chat.completion.chunk")
    if with_usage:
        frame["usage"] = None
    delta = {"role": "assistant", **_message(result.outcome)}
    for number, call in enumerate(delta.get("tool_calls", ())):
        call["index"] = number
    for part, finish in ((delta, None), ({}, _finish(result))):
        choice = {"index": 0, "delta": part, "finish_reason": finish}
        yield {**frame, "choices": [choice]}
    if with_usage:
        yield {**frame, "choices": [], "usage": _usage(result.outcome)}


def _message(outcome: Outcome) -> dict[str, Any]:
    """Return the content of an answer; its record has the tool calls in the text, too."""
    calls = outcome.details.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return {"content": outcome.answer}
    return {"content": None, "tool_calls": [{"type": "function", **call} for call in calls]}


def _frame(result: Result, kind: str) -> dict[str, Any]:
    question, outcome = result.question, result.outcome
    return {
        "id": outcome.provider_response_id or f"chatcmpl-{question.uid}",
        "object": kind,
        "created": int(question.created_at.timestamp()),
        "model": outcome.model or question.model,
    }


def _finish(result: Result) -> str:
    return result.outcome.finish_reason or "stop"


def _usage(outcome: Outcome) -> dict[str, int] | None:
    prompt, completion = outcome.prompt_tokens, outcome.completion_tokens
    if prompt is None or completion is None:
        return None
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
