"""An answer while it arrives, as events of HTML for `static/page.js`.

`record` says where it is kept; `text` brings the blocks that are settled since the last one, and
the block that still grows in place of the last; `done` brings the record as its page shows it.
`error` is the problem, where not even a failed record can be shown.
"""

from collections.abc import Iterator
from time import monotonic, thread_time

from flask import Response, current_app, get_template_attribute, stream_with_context
from markupsafe import Markup

from qacli.domain import Status, now
from qacli.errors import QaError
from qacli.web import errors, sse, state
from qacli.web.answer import LiveAnswer
from qacli.web.ui.history_list import Query, make_item
from qacli.web.ui.markdown import StreamingMarkdown

BEAT = 0.1
"""Seconds between two renderings: text looks fluent at that."""

COST = 10
"""A rendering that took long is followed by a pause so many times as long."""

QUIET = 1.0
"""Seconds of silence after which the connection is tried: whoever has left is soon known."""

WAITING = (
    "The answer is complete, but the database is away.",
    "It is safe: it will be in the history as soon as the database is back.",
)


def response(answer: LiveAnswer) -> Response:
    """The events of an answer that has been started."""
    return sse.response(answer, stream_with_context(_lines(answer)))


def _lines(answer: LiveAnswer) -> Iterator[str]:
    json = current_app.json.dumps
    address = f"/page/{answer.record_id}"
    yield sse.event("record", json({"id": answer.record_id, "address": address}))
    try:
        yield from _texts(answer)
    except Exception as error:  # noqa: BLE001 - the person is told; a mistake is logged
        problem = errors.problem_for(error).to_json()
        if getattr(error, "record_id", None) is None:
            yield sse.event("error", problem)
            return
    yield _end(answer)


def _texts(answer: LiveAnswer) -> Iterator[str]:
    json = current_app.json.dumps
    arriving = StreamingMarkdown()
    sent = due = monotonic()
    changed, shown = False, Markup("")
    for text in answer:
        arriving.add(text)
        changed = changed or bool(text)
        moment = monotonic()
        if changed and moment >= due:
            cost = thread_time()
            settled, growing = arriving.render()
            cost = thread_time() - cost
            if settled or growing != shown:
                yield sse.event("text", json({"settled": settled, "growing": growing}))
                sent, shown = moment, growing
            changed = False
            due = moment + max(BEAT, COST * cost)
        elif moment - sent >= QUIET:
            yield sse.KEEP_ALIVE
            sent = moment


def _end(answer: LiveAnswer) -> str:
    """The last event: the record as it was kept."""
    json = current_app.json.dumps
    try:
        record = state.get_state().store.get(answer.record_id or 0)
    except QaError as error:
        return sse.event("error", errors.problem_for(error).to_json())
    if record.status is Status.ASKING:
        return sse.event("error", json({"detail": " ".join(WAITING)}))
    article = get_template_attribute("record.html", "article")
    entry = get_template_attribute("list.html", "entry")
    done = {
        "id": record.id,
        "status": record.status,
        "article": article(record, Status),
        "item": entry(make_item(record, Query(), now(), []), record.id),
    }
    return sse.event("done", json(done))
