"""Server-sent events (the WHATWG HTML standard's): an answer as it arrives."""

from collections.abc import Iterator
from functools import partial

from flask import Response, current_app

from qacli.web import errors
from qacli.web.answer import AnswerStream
from qacli.web.request_context import keep_context

MIME_TYPE = "text/event-stream"
KEEP_ALIVE = ": still here\n\n"
"""A comment: what a proxy needs to see, and how the server finds that the client has left."""

KEEP_ALIVE_SECONDS = 5.0

LINE_ENDS = str.maketrans({"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"})
"""What the standard does not take for the end of a line, and many a client does."""


def response(answer: AnswerStream, lines: Iterator[str]) -> Response:
    """A stream of events that reads an answer, and closes it at its end or where it is cut.

    Args:
        answer: What is closed, also where nothing of the stream was ever read.
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
    """The answer as `record`, `delta` and `done` or `error` events.

    A second `record` event comes where an answer did not fit its schema and is asked for again;
    nothing of the first was sent then.
    """
    json = partial(current_app.json.dumps, separators=(",", ":"))

    def record() -> str:
        known = {"id": answer.record_id, "created_at": answer.created_at.isoformat()}
        return event("record", json(known))

    in_request = keep_context()

    def lines() -> Iterator[str]:
        known = answer.record_id
        yield record()
        try:
            for text in answer:
                if answer.record_id != known:
                    known = answer.record_id
                    yield record()
                elif not text:
                    yield KEEP_ALIVE
                if text:
                    yield event("delta", json({"text": text}))
        except Exception as error:  # noqa: BLE001 - the client is told; a mistake is logged
            with in_request():
                problem = errors.problem_for(error).to_json()
            yield event("error", problem)
        else:
            yield event("done", json(answer.to_dict()))

    return response(answer, lines())
