"""An answer while it arrives, as events of HTML for `static/page.js`.

`record` has the address of the record; `reasoning` has plain text that follows the reasoning
before it; `text` has the blocks that are complete since the last
one, and the block that still grows, which replaces the one before; `done` has the record as its
page shows it. `error` is the problem, if there is no record to show.
"""

from collections.abc import Iterator
from time import monotonic, thread_time

from flask import Response, current_app, get_template_attribute, stream_with_context
from markupsafe import Markup

from qacli.db.thread_list import threads_of
from qacli.domain import (
    Delta,
    Failed,
    Finished,
    Heartbeat,
    ReasoningDelta,
    Started,
    Status,
    now,
)
from qacli.errors import QaError
from qacli.web import errors, sse, state
from qacli.web.answer import AnswerStream
from qacli.web.forwarded_prefix import root
from qacli.web.ui.history_list import Query, make_item
from qacli.web.ui.markdown import StreamingMarkdown

HEARTBEAT_SECONDS = 0.1
"""Seconds between two renderings: at this rate the text looks fluent."""

COST = 10
"""Wait at least COST times the last rendering's processor time before rendering again."""

MAX_SILENCE_SECONDS = 1.0
"""Seconds without an event after which a comment tests whether the client is still connected."""

WAITING = (
    "The answer is complete, but the database is away.",
    "It is safe: it will be in the history as soon as the database is back.",
)


def response(answer: AnswerStream) -> Response:
    """Send the events of an answer."""
    return sse.response(answer, stream_with_context(_lines(answer)))


def _lines(answer: AnswerStream) -> Iterator[str]:
    json = current_app.json.dumps
    record_id = answer.started.record_id
    yield sse.event("record", json({"id": record_id, "address": f"{root()}/page/{record_id}"}))
    text = _ArrivingText()
    for event in answer:
        match event:
            case Started():
                record_id = event.record_id
            case ReasoningDelta(piece):
                text.add_reasoning(piece)
                yield from text.lines()
            case Delta(piece):
                text.add(piece)
                yield from text.lines()
            case Heartbeat():
                yield from text.lines()
            case Finished():
                yield _end(record_id)
            case Failed(error):
                problem = errors.problem_for(error).to_json()
                if isinstance(error, QaError) and error.record_id is not None:
                    yield _end(error.record_id)
                else:
                    yield sse.event("error", problem)


class _ArrivingText:
    """The text so far, rendered from time to time."""

    def __init__(self) -> None:
        self._markdown = StreamingMarkdown()
        self._sent = self._due = monotonic()
        self._changed = False
        self._growing = Markup("")
        self._reasoning: list[str] = []

    def add_reasoning(self, text: str) -> None:
        self._reasoning.append(text)

    def add(self, text: str) -> None:
        self._markdown.add(text)
        self._changed = True

    def lines(self) -> Iterator[str]:
        """Yield the next event if it is time for one, or a comment after a time without any."""
        moment = monotonic()
        if self._reasoning and moment >= self._due:
            self._sent, self._due = moment, moment + HEARTBEAT_SECONDS
            yield sse.event("reasoning", current_app.json.dumps({"text": "".join(self._reasoning)}))
            self._reasoning.clear()
        elif self._changed and moment >= self._due:
            cost = thread_time()
            settled, growing = self._markdown.render()
            cost = thread_time() - cost
            self._changed = False
            self._due = moment + max(HEARTBEAT_SECONDS, COST * cost)
            if settled or growing != self._growing:
                self._sent, self._growing = moment, growing
                data = {"settled": settled, "growing": growing}
                yield sse.event("text", current_app.json.dumps(data))
        elif moment - self._sent >= MAX_SILENCE_SECONDS:
            self._sent = moment
            yield sse.KEEP_ALIVE


def _end(record_id: int | None) -> str:
    """Return the last event: the record as the history has it."""
    json = current_app.json.dumps
    try:
        record = state.get_state().store.get(record_id or 0)
    except QaError as error:
        return sse.event("error", errors.problem_for(error).to_json())
    if record.status is Status.ASKING:
        return sse.event("error", json({"detail": " ".join(WAITING)}))
    thread = threads_of(state.get_state().store, [record.id or 0])[record.id or 0]
    article = get_template_attribute("record.html", "article")
    entry = get_template_attribute("list.html", "entry")
    done = {
        "id": record.id,
        "status": record.status,
        "article": article(record, Status),
        "thread": thread.id,
        "item": entry(make_item(record, thread, Query(), now(), []), thread.id),
    }
    return sse.event("done", json(done))
