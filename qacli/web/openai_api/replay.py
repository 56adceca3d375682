"""Answer a repeated `Idempotency-Key` in OpenAI's format, from the record of the first request."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from flask import Response, current_app, jsonify

from qacli.domain import AnswerEvent, Failed, Finished, Heartbeat, Outcome, Result
from qacli.web import errors as problems
from qacli.web import sse
from qacli.web.answer import AnswerStream
from qacli.web.openai_api import errors
from qacli.web.openai_api.relay import responses_error_event, with_record
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


def replay_model_response(
    answer: AnswerStream,
    *,
    is_streamed: bool,
    with_usage: bool,  # noqa: ARG001 - a response always has its usage
) -> Response:
    """Return a recorded answer as a response of the Responses API; see `replay_response`."""
    if not is_streamed:
        return with_record(jsonify(_model_response(answer.result())))
    return with_record(sse.response(answer, _model_events(answer)))


def _model_response(result: Result) -> dict[str, Any]:
    question, outcome = result.question, result.outcome
    calls = _message(outcome).get("tool_calls", ())
    output: list[dict[str, Any]] = [
        {
            "type": "function_call",
            "id": f"fc_{question.uid}_{number}",
            "call_id": call["id"],
            "status": "completed",
            **call["function"],
        }
        for number, call in enumerate(calls)
    ]
    is_whole = outcome.finish_reason in {None, "stop", "tool_calls"}
    if not output:
        text = {"type": "output_text", "text": outcome.answer or "", "annotations": []}
        output.append(
            {
                "type": "message",
                "id": f"msg_{question.uid}",
                "role": "assistant",
                "status": "completed" if is_whole else "incomplete",
                "content": [text],
            }
        )
    prompt, completion = outcome.prompt_tokens, outcome.completion_tokens
    usage = None
    if prompt is not None and completion is not None:
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": outcome.cached_tokens or 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": outcome.reasoning_tokens or 0},
            "total_tokens": prompt + completion,
        }
    return {
        "id": outcome.provider_response_id or f"resp_{question.uid}",
        "object": "response",
        "created_at": int(question.created_at.timestamp()),
        "status": "completed" if is_whole else "incomplete",
        "error": None,
        "incomplete_details": None if is_whole else {"reason": outcome.finish_reason},
        "instructions": question.system,
        "model": outcome.model or question.model,
        "output": output,
        "parallel_tool_calls": question.params.get("parallel_tool_calls", True),
        "tool_choice": question.params.get("tool_choice", "auto"),
        "tools": question.params.get("tools", []),
        "usage": usage,
    }


def _response_events(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream with the whole response: one for the start, text and end."""
    started = {**response, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": started}]
    for index, item in enumerate(response["output"]):
        events.append({"type": "response.output_item.added", "output_index": index, "item": item})
        for part in item.get("content", ()):
            place = {"item_id": item["id"], "output_index": index, "content_index": 0}
            delta = {"type": "response.output_text.delta", **place, "delta": part["text"]}
            events.append({**delta, "logprobs": []})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{response['status']}", "response": response})
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def _model_events(answer: AnswerStream) -> Iterator[str]:
    dumps = _json_dumps()

    def finished_lines(result: Result) -> Iterator[str]:
        for event in _response_events(_model_response(result)):
            yield f"event: {event['type']}\ndata: {dumps(event)}\n\n"

    return _lines(answer, responses_error_event, finished_lines)


def _chunks(answer: AnswerStream, *, with_usage: bool) -> Iterator[str]:
    dumps = _json_dumps()

    def data(value: object) -> str:
        return f"data: {dumps(value)}\n\n"

    def finished_lines(result: Result) -> Iterator[str]:
        yield from map(data, _chunk_objects(result, with_usage=with_usage))
        yield "data: [DONE]\n\n"

    return _lines(answer, data, finished_lines)


def _lines(
    answer: AnswerStream,
    error_line: Callable[[dict[str, Any]], str],
    finished_lines: Callable[[Result], Iterator[str]],
) -> Iterator[str]:
    """Return the lines of a replayed stream.

    Args:
        answer: The recorded answer.
        error_line: Formats an error of OpenAI's API.
        finished_lines: Formats the whole answer.
    """
    in_request = keep_context()

    def lines(events: Iterator[AnswerEvent]) -> Iterator[str]:
        for item in events:
            match item:
                case Heartbeat():
                    yield sse.KEEP_ALIVE
                case Failed(error):
                    with in_request():
                        line = error_line(errors.openai_error(problems.problem_for(error)))
                    yield line
                case Finished(result):
                    yield from finished_lines(result)

    return lines(iter(answer))


def _json_dumps() -> Callable[[object], str]:
    return partial(current_app.json.dumps, separators=(",", ":"))


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
