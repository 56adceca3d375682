"""Answer a repeated `Idempotency-Key` in OpenAI's format, from the record of the first request."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from flask import Response, jsonify

from qacli.domain import AnswerEvent, Failed, Finished, Heartbeat, Result
from qacli.provider.translation.chat_writer import END, ChatWriter, chunk_of, usage_of
from qacli.provider.translation.responses_writer import ResponsesWriter
from qacli.provider.translation.stored import stored_completion, stored_response, usage_in
from qacli.web import errors as problems
from qacli.web import sse
from qacli.web.answer import AnswerStream
from qacli.web.openai_api import errors
from qacli.web.openai_api.relay import chat_error_event, responses_error_event, with_record
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

    def write(result: Result) -> ChatWriter:
        return stored_completion(result.question, result.outcome, with_usage=with_usage)

    return _replay(answer, write, chat_error_event, is_streamed=is_streamed)


def replay_model_response(
    answer: AnswerStream,
    *,
    is_streamed: bool,
    with_usage: bool,  # noqa: ARG001 - a response always has its usage
) -> Response:
    """Return a recorded answer as a response of the Responses API; see `replay_response`."""

    def write(result: Result) -> ResponsesWriter:
        return stored_response(result.question, result.outcome)

    return _replay(answer, write, responses_error_event, is_streamed=is_streamed)


def replay_completion(answer: AnswerStream, *, is_streamed: bool, with_usage: bool) -> Response:
    """Return a recorded answer as a text completion, or as the chunks of one.

    See `replay_response`.
    """

    def write(result: Result) -> _TextWriter:
        return _TextWriter(result, with_usage=with_usage)

    return _replay(answer, write, chat_error_event, is_streamed=is_streamed)


class _TextWriter:
    """Writes a recorded answer as a text completion, of the older API."""

    def __init__(self, result: Result, *, with_usage: bool) -> None:
        question, outcome = result.question, result.outcome
        choice = {"index": 0, "text": outcome.answer or "", "logprobs": None}
        usage = usage_of(usage_in(outcome))
        self.response = {
            "id": outcome.provider_response_id or f"cmpl-{question.uid}",
            "object": "text_completion",
            "created": int(question.created_at.timestamp()),
            "model": outcome.model or question.model,
            "choices": [{**choice, "finish_reason": outcome.finish_reason or "stop"}],
            "usage": usage,
        }
        chunk = {name: value for name, value in self.response.items() if name != "usage"}
        self._chunks = [chunk]
        if with_usage:
            self._chunks = [{**chunk, "usage": None}, {**chunk, "choices": [], "usage": usage}]

    def take(self) -> bytes:
        """Return all chunks as server-sent events."""
        return b"".join(map(chunk_of, self._chunks)) + END


class _Written(Protocol):
    """An answer in the form of an API: as a document, and as the bytes of a stream."""

    response: dict[str, Any]

    def take(self) -> bytes: ...


def _replay(
    answer: AnswerStream,
    write: Callable[[Result], _Written],
    error_event: Callable[[dict[str, Any]], str],
    *,
    is_streamed: bool,
) -> Response:
    if not is_streamed:
        return with_record(jsonify(write(answer.result()).response))
    lines = _lines(answer, error_event, lambda result: write(result).take().decode())
    return with_record(sse.response(answer, lines))


def _lines(
    answer: AnswerStream,
    error_line: Callable[[dict[str, Any]], str],
    finished_lines: Callable[[Result], str],
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
                    yield finished_lines(result)

    return lines(iter(answer))
