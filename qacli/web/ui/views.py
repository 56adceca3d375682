"""The routes of the page."""

from datetime import datetime
from http import HTTPStatus

from flask import Blueprint, current_app, g, redirect, render_template, request
from markupsafe import Markup
from pydantic import ValidationError
from werkzeug.wrappers import Response

from qacli.dates import format_age
from qacli.domain import Status, now
from qacli.errors import QaError
from qacli.validation import validate_tag
from qacli.web import errors, sse, state
from qacli.web.api import ask as ask_api
from qacli.web.request_context import current_context
from qacli.web.ui import sse as ui_sse
from qacli.web.ui.forms import follows_in, parse_ask_form, parse_tags
from qacli.web.ui.history_list import Query, listing, shorten
from qacli.web.ui.limits import CpuBudget
from qacli.web.ui.render_cache import PAGE_SECONDS, RenderCache
from qacli.web.ui.thread import Thread, thread

blueprint = Blueprint(
    "page",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static",
)
blueprint.add_app_template_filter(shorten, "shortened")

HEADING = 280
"""Characters of a question that is a heading; a longer one is folded below its beginning."""

HEADING_LINES = 4

EXAMPLES = (
    "Why does a bicycle stay upright? Five sentences.",
    "Write a Python function that merges overlapping intervals.",
    "Two days in Lisbon: what to see? As a table.",
)


CACHE = RenderCache()


@blueprint.app_template_filter("markdown")
def _markdown(answer: str, first: bool = False) -> Markup:  # noqa: FBT001, FBT002 - as a template gives it
    """Render an answer within the time for its page.

    Args:
        answer: The answer.
        first: It is the one that the page is for; it has time of its own, whatever the others take.
    """
    if "rendering" not in g:
        g.rendering = CpuBudget(PAGE_SECONDS)
    return CACHE.render(answer, CpuBudget(PAGE_SECONDS) if first else g.rendering)


@blueprint.app_template_filter("ago")
def _ago(when: datetime) -> str:
    return format_age(when, now())


@blueprint.app_template_filter("headline")
def _headline(question: str) -> str:
    """What a long question begins with: its first line, in short."""
    lines = question.strip().split("\n", 1)
    first = shorten(lines[0])
    return f"{first} \u2026" if len(lines) > 1 and not first.endswith("\u2026") else first


@blueprint.app_template_test("long")
def _is_long(question: str) -> bool:
    """Whether a question is too long for a heading."""
    return len(question) > HEADING or question.strip().count("\n") >= HEADING_LINES


@blueprint.app_context_processor
def _everywhere() -> dict[str, object]:
    return {"Status": Status, "is_signed_in": current_context().is_signed_in}


@blueprint.get("/")
def home() -> tuple[str, int]:
    """Ask, and the history."""
    return _page(question=request.args.get("question", ""))


@blueprint.get("/page/<int:record_id>")
def record(record_id: int) -> tuple[str, int]:
    """A record in its thread, beside the history."""
    return _page(around=thread(state.get_state().store, record_id), current=record_id)


@blueprint.post("/page/ask")
def ask() -> Response | tuple[str, int]:
    """Ask: as events while the answer arrives, or else to the record once it is there."""
    # As much as any other body: without it the form's own limit is lower.
    request.max_form_memory_size = current_app.config["MAX_CONTENT_LENGTH"]
    streamed = request.accept_mimetypes.best_match(["text/html", sse.MIME_TYPE])
    if streamed == sse.MIME_TYPE:
        body = parse_ask_form(request.form)
        answer = ask_api.start(body, heartbeat_seconds=ui_sse.HEARTBEAT_SECONDS)
        return ui_sse.response(answer)
    try:
        body = parse_ask_form(request.form)
        result = ask_api.start(body).result()
    except (QaError, ValidationError) as error:
        failed = getattr(error, "record_id", None)
        return _again(error) if failed is None else _to_record(failed)
    return _to_record(result.record_id or 0)


def _again(error: QaError | ValidationError) -> tuple[str, int]:
    """The form as it was sent, with what is wrong."""
    if isinstance(error, QaError):
        problem = errors.from_error(error).get_json()
    else:
        problem = errors.from_validation(error).get_json()
    around = follows_id = None
    try:
        if (given := follows_in(request.form)) is not None:
            around, follows_id = thread(state.get_state().store, given), given
    except (QaError, ValidationError):
        pass  # what it follows up may be the very thing that is not there
    return _page(
        question=request.form.get("question", ""),
        around=around,
        current=follows_id,
        problem=problem["detail"],
        status=problem["status"],
    )


@blueprint.post("/page/<int:record_id>/delete")
def delete(record_id: int) -> Response:
    """Remove a record; what it followed up, and what follows it up, stays."""
    state.get_state().store.remove(record_id)
    return redirect(f"/?removed={record_id}", HTTPStatus.SEE_OTHER)


@blueprint.post("/page/<int:record_id>/tags")
def tag(record_id: int) -> Response:
    """Add tags to a record, or take some off."""
    add, remove = parse_tags(request.form.get("add", "")), request.form.getlist("remove")
    for each in add:
        validate_tag(each)
    state.get_state().store.change_tags(record_id, add, remove)
    return _to_record(record_id)


def _to_record(record_id: int) -> Response:
    return redirect(f"/page/{record_id}#r{record_id}", HTTPStatus.SEE_OTHER)


def _page(
    *,
    question: str = "",
    around: Thread | None = None,
    current: int | None = None,
    problem: str | None = None,
    status: int = HTTPStatus.OK,
) -> tuple[str, int]:
    """The page.

    Args:
        question: What stands in the form.
        around: The record and its thread; None asks something new.
        current: The record's id.
        problem: Why what was sent could not be asked.
        status: The HTTP status.
    """
    listed = listing(state.get_state().store, Query.from_args(request.args), now())
    if listed.problem and status == HTTPStatus.OK:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    page = render_template(
        "page.html",
        listing=listed,
        thread=around,
        current=current,
        question=question,
        given=request.form,
        problem=problem,
        removed=request.args.get("removed", type=int),
        examples=EXAMPLES,
        default_model=_default_model(),
    )
    return page, status


def _default_model() -> str:
    """The model that is asked where none is named; empty where there is no provider."""
    try:
        return state.get_state().model(None)
    except QaError:
        return ""
