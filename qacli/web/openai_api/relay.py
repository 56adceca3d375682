"""Hand the provider's response on to a client of `/v1` as it is."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from flask import Response, current_app

from qacli.domain import AnswerEvent, Failed, Heartbeat
from qacli.raw_request import ResponseBytes, ResponseEnd, ResponseHead
from qacli.web import errors as problems
from qacli.web import sse
from qacli.web.openai_api import errors
from qacli.web.request_context import current_context, keep_context

ErrorEvent = Callable[[dict[str, Any], bytes], str]
NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d+)')
"""The number of an event of Responses; inside of a text its quotes would be escaped."""

RECORD_HEADER = "X-QA-Record"
EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
MAX_EVENT_END = 4
"""Bytes of the longest end of an event."""


class Events(Protocol):
    """The events of a response, which are closed at its end: an `AnswerStream`, or a generator."""

    def __iter__(self) -> Iterator[AnswerEvent]:
        """Return the events."""

    def close(self) -> None:
        """Stop reading."""


def relay_response(source: Events, to_event: ErrorEvent = lambda _body, _before: "") -> Response:
    """Return the provider's response: its status, its headers and its bytes.

    Args:
        source: The events of the response.
        to_event: Returns the event for an error in a stream, from its body and the bytes before it.

    Raises:
        QaError: There is no response of the provider to hand on.
    """
    events = iter(source)
    for item in events:
        if isinstance(item, Failed):
            raise item.error
        if isinstance(item, ResponseHead):
            break
    else:
        raise AssertionError("a response has a head or fails")
    is_stream = dict(item.headers).get("content-type", "").lower().startswith(sse.MIME_TYPE)
    body = _stream(events, to_event) if is_stream else _content(events)
    response = Response(body, item.status)
    response.headers.clear()
    response.headers.extend(item.headers)
    if is_stream:
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # or nginx buffers it
        response.call_on_close(source.close)
    else:
        response.headers["Content-Length"] = str(len(body)) if isinstance(body, bytes) else "0"
    return with_record(response)


def with_record(response: Response) -> Response:
    """Return the response with the id of its record."""
    if (record_id := current_context().record_id) is not None:
        response.headers[RECORD_HEADER] = str(record_id)
    return response


def _content(events: Iterator[AnswerEvent]) -> bytes:
    """Return a response in one piece, once its record has its outcome.

    Raises:
        QaError: The provider broke off.
    """
    content, is_whole = bytearray(), False
    for item in events:
        match item:
            case ResponseBytes(data):
                content += data
            case ResponseEnd():
                is_whole = True
            case Failed(error):
                if not is_whole:
                    raise error
                problems.problem_for(error)  # for the log
    return bytes(content)


def chat_error_event(body: dict[str, Any], _before: bytes = b"") -> str:
    """Return the event for an error in a stream of Chat Completions."""
    return f"data: {current_app.json.dumps(body)}\n\n"


def responses_error_event(body: dict[str, Any], before: bytes = b"") -> str:
    """Return the event for an error in a stream of Responses, with the number after the last."""
    numbers = NUMBER.findall(before)
    number = int(numbers[-1]) + 1 if numbers else 0
    event = {**body["error"], "type": "error", "sequence_number": number}
    data = current_app.json.dumps(event)
    return f"event: error\ndata: {data}\n\n"


def _stream(events: Iterator[AnswerEvent], to_event: ErrorEvent) -> Iterator[bytes]:
    """Yield the bytes of a stream, whole events at a time, the last ones once they are recorded.

    Where the provider breaks off in the middle of an event, an event with the error comes in its
    place. In a long silence a comment keeps the connection open, between two events.
    """
    in_request = keep_context()

    def pieces() -> Iterator[bytes]:
        pending, before, is_whole = bytearray(), b"", False
        for item in events:
            match item:
                case ResponseBytes(data, is_last):
                    start = max(len(pending) - MAX_EVENT_END, 0)
                    pending += data
                    ends = [end.end() for end in EVENT_END.finditer(pending, start)]
                    if ends and not is_last:
                        before = bytes(pending[: ends[-1]])
                        yield before
                        del pending[: ends[-1]]
                case Heartbeat() if not pending:
                    yield sse.KEEP_ALIVE.encode()
                case ResponseEnd():
                    is_whole = True
                case Failed(error):
                    with in_request():
                        problem = problems.problem_for(error)
                        if not is_whole:
                            pending[:] = to_event(errors.openai_error(problem), before).encode()
        if pending:
            yield bytes(pending)

    return pieces()
