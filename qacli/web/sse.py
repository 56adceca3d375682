"""Send an answer as server-sent events (WHATWG HTML standard) while it arrives."""

from collections.abc import Iterator
from functools import partial
from itertools import chain

from flask import Response, current_app

from qacli.domain import (
    AnswerEvent,
    Delta,
    Failed,
    Finished,
    Heartbeat,
    ReasoningDelta,
    Started,
)
from qacli.serializers import result_to_dict
from qacli.web import errors
from qacli.web.answer import AnswerStream
from qacli.web.request_context import keep_context

MIME_TYPE = "text/event-stream"
KEEP_ALIVE = ": still here\n\n"
"""A comment: proxies keep the connection, and the server notices a client that disconnected."""

KEEP_ALIVE_SECONDS = 5.0

TEXT_EVENTS = {Delta: "delta", ReasoningDelta: "reasoning"}

LINE_ENDS = str.maketrans({"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"})
"""Escapes for characters that end a line in many clients, though not in the standard."""


def response(answer: AnswerStream, lines: Iterator[str]) -> Response:
    """Return the streaming response for an answer.

    Args:
        answer: Closed at the end of the response, even if no line was read.
        lines: The text of the events.
    """
    streamed = Response(lines, content_type=MIME_TYPE)
    streamed.headers["Cache-Control"] = "no-store"
    streamed.headers["X-Accel-Buffering"] = "no"  # or nginx buffers it
    streamed.call_on_close(answer.close)
    return streamed


def event(name: str, data: str) -> str:
    """Return the text of one event; `data` is JSON without line breaks."""
    return f"event: {name}\ndata: {data.translate(LINE_ENDS)}\n\n"


def answer_events(answer: AnswerStream) -> Response:
    """Send an answer as `record`, `reasoning`, `delta` and `done` or `error` events.

    A second `record` event comes if an answer did not fit its schema and the question is asked
    again; no text of the first answer was sent in that case.
    """
    json = partial(current_app.json.dumps, separators=(",", ":"))
    in_request = keep_context()

    def to_text(item: AnswerEvent) -> str | None:
        match item:
            case Started(question, record_id):
                created_at = question.created_at.isoformat()
                return event("record", json({"id": record_id, "created_at": created_at}))
            case Delta(text) | ReasoningDelta(text):
                return event(TEXT_EVENTS[type(item)], json({"text": text}))
            case Heartbeat():
                return KEEP_ALIVE
            case Finished(result):
                return event("done", json(result_to_dict(result)))
            case Failed(error):
                with in_request():
                    return event("error", errors.problem_for(error).to_json())
            case _:
                return None

    return response(answer, filter(None, map(to_text, chain([answer.started], answer))))
