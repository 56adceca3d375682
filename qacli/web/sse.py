"""Server-sent events (the WHATWG HTML standard's): an answer as it arrives."""

from collections.abc import Iterator
from functools import partial
from itertools import chain

from flask import Response, current_app

from qacli.domain import AnswerEvent, Delta, Failed, Finished, Heartbeat, Started
from qacli.serializers import result_to_dict
from qacli.web import errors
from qacli.web.answer import AnswerStream
from qacli.web.request_context import keep_context

MIME_TYPE = "text/event-stream"
KEEP_ALIVE = ": still here\n\n"
"""A comment, so that proxies keep the connection and the server notices a client that has left."""

KEEP_ALIVE_SECONDS = 5.0

LINE_ENDS = str.maketrans({"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"})
"""Characters that end no line in the standard, but in many clients."""


def response(answer: AnswerStream, lines: Iterator[str]) -> Response:
    """Build the response of a stream of events that reads an answer.

    Args:
        answer: Closed at the end of the response, even where no line of it was read.
        lines: The events.
    """
    streamed = Response(lines, content_type=MIME_TYPE)
    streamed.headers["Cache-Control"] = "no-store"
    streamed.headers["X-Accel-Buffering"] = "no"  # nginx would collect it
    streamed.call_on_close(answer.close)
    return streamed


def event(name: str, data: str) -> str:
    """One event; its data is JSON, which has no line ends of its own."""
    return f"event: {name}\ndata: {data.translate(LINE_ENDS)}\n\n"


def answer_events(answer: AnswerStream) -> Response:
    """Send an answer as `record`, `delta` and `done` or `error` events.

    A second `record` event comes where an answer did not fit its schema and is asked for again;
    nothing of the first was sent then.
    """
    json = partial(current_app.json.dumps, separators=(",", ":"))
    in_request = keep_context()

    def line(item: AnswerEvent) -> str | None:
        match item:
            case Started(question, record_id):
                created_at = question.created_at.isoformat()
                return event("record", json({"id": record_id, "created_at": created_at}))
            case Delta(text):
                return event("delta", json({"text": text}))
            case Heartbeat():
                return KEEP_ALIVE
            case Finished(result):
                return event("done", json(result_to_dict(result)))
            case Failed(error):
                with in_request():
                    return event("error", errors.problem_for(error).to_json())
            case _:
                return None

    return response(answer, filter(None, map(line, chain([answer.started], answer))))
