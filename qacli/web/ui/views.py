"""Routes of the page: home, record, ask, delete and tags."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from flask import (
    Blueprint,
    current_app,
    g,
    get_template_attribute,
    redirect,
    render_template,
    request,
    send_from_directory,
)
from markupsafe import Markup, escape
from pydantic import ValidationError
from werkzeug.wrappers import Response

from qacli.attachments import Attachment
from qacli.citations import images, sources
from qacli.dates import format_age
from qacli.db.thread_list import threads_of
from qacli.domain import Status, now
from qacli.errors import AlreadyFinished, InvalidRequest, NotFound, QaError
from qacli.provider.tool_exchange import call_arguments, has_tool_results, is_calls_only
from qacli.serializers import error_text, reasoning_length
from qacli.services.compare import same_question
from qacli.validation import parse_title, validate_tag
from qacli.web import errors, multipart, sse, state
from qacli.web.answer import AnswerStream
from qacli.web.api import ask as ask_api
from qacli.web.live_answers import cancel_answer
from qacli.web.request_context import current_context
from qacli.web.route_policy import Access, policy
from qacli.web.ui import sse as ui_sse
from qacli.web.ui.forms import parse_ask_form, parse_files, parse_links, parse_tags
from qacli.web.ui.history_list import Query, load_listing, mark_html, shorten
from qacli.web.ui.limits import CpuBudget
from qacli.web.ui.render_cache import PAGE_SECONDS, RenderCache
from qacli.web.ui.thread import Thread, load_thread

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer

blueprint = Blueprint("page", __name__, template_folder="templates")
blueprint.add_app_template_filter(shorten, "shorten")
for function in (
    error_text,
    reasoning_length,
    sources,
    images,
    call_arguments,
    has_tool_results,
    is_calls_only,
):
    blueprint.add_app_template_global(function, function.__name__)

STATIC_FOLDER = Path(__file__).with_name("static")

MAX_HEADING_CHARACTERS = 280
MAX_HEADING_LINES = 4
"""A longer question is shown folded, below its beginning."""

EXAMPLES = (
    "Why does a bicycle stay upright? Five sentences.",
    "Write a Python function that merges overlapping intervals.",
    "Two days in Lisbon: what to see? As a table.",
)

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
"""The values of `reasoning_effort` in OpenAI's API; a model takes some of them."""

CACHE = RenderCache()


@blueprint.app_template_filter("markdown")
def _markdown(answer: str, is_current: bool = False) -> Markup:  # noqa: FBT001, FBT002 - a template filter
    """Render an answer within the processor time for its page.

    Args:
        answer: The answer.
        is_current: This is the page's main record; it does not share the processor time of the
            other answers.
    """
    if "rendering" not in g:
        g.rendering = CpuBudget(PAGE_SECONDS)
    return CACHE.render(answer, CpuBudget(PAGE_SECONDS) if is_current else g.rendering)


@blueprint.app_template_filter("marked")
def _marked(text: str) -> Markup:
    """Mark the words of the search in a text, or in HTML."""
    return mark_html(escape(text), g.get("words", []))


@blueprint.app_template_filter("ago")
def _ago(when: datetime) -> str:
    return format_age(when, now())


@blueprint.app_template_filter("headline")
def _headline(question: str) -> str:
    """Return the shortened first line of a long question."""
    lines = question.strip().split("\n", 1)
    first = shorten(lines[0])
    return f"{first} \u2026" if len(lines) > 1 and not first.endswith("\u2026") else first


@blueprint.app_template_test("long")
def _is_long(question: str) -> bool:
    """Return whether a question is too long for a heading."""
    return (
        len(question) > MAX_HEADING_CHARACTERS or question.strip().count("\n") >= MAX_HEADING_LINES
    )


@blueprint.app_context_processor
def _context() -> dict[str, object]:
    return {
        "Status": Status,
        "is_signed_in": current_context().is_signed_in,
    }


@blueprint.get("/static/<path:filename>")
@policy(Access.SAME_ORIGIN)
def static(filename: str) -> Response:
    """Return a style sheet, a script or an icon."""
    return send_from_directory(STATIC_FOLDER, filename)


@blueprint.get("/")
def home() -> tuple[str, int]:
    """Show the form and the history; with `?edit=ID`, filled with that record's question.

    The user asks that question again.
    """
    record_id = request.args.get("edit", type=int)
    if record_id is None:
        return _page(question=request.args.get("question", ""))
    store = state.get_state().store
    record = store.get(record_id)
    parent_id = record.follows_id
    form = {
        "model": record.params.get("model", ""),
        "system": record.system or "",
        "tags": ", ".join(record.tags),
        "reasoning_effort": record.params.get("reasoning_effort", ""),
        "repeats_id": str(record_id),
    }
    thread = None
    if parent_id is not None:
        with suppress(NotFound):  # it may be deleted
            thread = load_thread(store, parent_id)
            # Leave out the records below: the form asks another follow-up of the parent.
            position = [item.id for item in thread.records].index(parent_id)
            del thread.records[position + 1 :]
            thread.branches = []
    return _page(
        question=record.question,
        files=[file["name"] for file in record.attachments],
        thread=thread,
        current=parent_id if thread else None,
        form=form,
    )


@blueprint.get("/page/<int:record_id>")
def record(record_id: int) -> tuple[str, int]:
    """Show a record in its thread, next to the history."""
    return _page(thread=load_thread(state.get_state().store, record_id), current=record_id)


@blueprint.post("/page/ask")
def ask() -> Response | tuple[str, int]:
    """Ask a question: stream events of the answer, or redirect to the record when it is done."""
    # The default for forms is lower than the limit for other bodies.
    request.max_form_memory_size = current_app.config["MAX_CONTENT_LENGTH"]
    if request.mimetype == multipart.MIME_TYPE:  # it can have files
        request.max_content_length = state.get_state().max_body
    streamed = request.accept_mimetypes.best_match(["text/html", sse.MIME_TYPE])
    if streamed == sse.MIME_TYPE:
        files = parse_files(request.files.getlist("files"))
        answer = _start(request.form, files, heartbeat_seconds=ui_sse.HEARTBEAT_SECONDS)
        return ui_sse.response(answer)
    try:
        files = parse_files(request.files.getlist("files"))
        if second := request.form.get("second_model", "").strip():
            return _ask_two({**request.form, "model": second}, files)
        result = _start(request.form, files).result()
    except (QaError, ValidationError) as error:
        failed = getattr(error, "record_id", None)
        return _form_with_error(error) if failed is None else _to_record(failed)
    return _to_record(result.record_id or 0)


def _ask_two(second: Mapping[str, str], files: Sequence[Attachment]) -> Response:
    """Ask the form's model and a second model at the same time, and compare the answers."""
    # Refuse a second model that cannot be asked before the first one is asked.
    state.get_state().model(parse_ask_form(second, _profiles()).model)
    first = _start(request.form, files)
    first.complete_in_background()
    first_id = first.started.record_id
    try:
        _start({**second, "repeats_id": str(first_id)}, files).result()
    except QaError as error:
        if error.record_id is None:  # otherwise its record shows the error
            raise
    return redirect(f"/page/{first_id}/compare", HTTPStatus.SEE_OTHER)


def _start(
    form: Mapping[str, str],
    files: Sequence[Attachment],
    *,
    heartbeat_seconds: float | None = None,
) -> AnswerStream:
    """Start to answer the question of a form."""
    repeats_id = parse_links(form).repeats_id
    repeats = None if repeats_id is None else state.get_state().store.get(repeats_id)
    if repeats is not None and repeats.attachments and not files:
        names = ", ".join(str(file.get("name")) for file in repeats.attachments)
        raise InvalidRequest(
            f"The question was asked with {names}, which the history does not keep.",
            "Add the files again.",
        )
    return ask_api.start(
        parse_ask_form(form, _profiles()),
        attachments=files,
        repeats=repeats,
        heartbeat_seconds=heartbeat_seconds,
    )


def _form_with_error(error: QaError | ValidationError) -> tuple[str, int]:
    """Return the page with the form as it was sent, and the error."""
    problem = errors.problem_for(error)
    thread = follows_id = None
    try:
        if (record_id := parse_links(request.form).follows_id) is not None:
            thread, follows_id = load_thread(state.get_state().store, record_id), record_id
    except (QaError, ValidationError):
        pass  # the invalid field may be this one
    return _page(
        question=request.form.get("question", ""),
        thread=thread,
        current=follows_id,
        problem=problem.detail,
        status=problem.status,
    )


@blueprint.get("/page/<int:record_id>/article")
def article(record_id: int) -> str:
    """Return one record as HTML, for a page that shows it while its answer arrives."""
    macro = get_template_attribute("record.html", "article")
    return str(macro(state.get_state().store.get(record_id), Status))


@blueprint.post("/page/<int:record_id>/cancel")
@policy(is_limited=False)
def cancel(record_id: int) -> Response:
    """Cancel the answer of a record, and show what had arrived."""
    app_state = state.get_state()
    with suppress(AlreadyFinished):  # its page shows the answer
        cancel_answer(app_state.live, app_state.store, record_id)
    return _to_record(record_id)


@blueprint.post("/page/<int:record_id>/delete")
@policy(is_limited=False)
def delete(record_id: int) -> Response:
    """Delete a record; the other records of its thread stay."""
    state.get_state().store.remove(record_id)
    return redirect(f"/?removed={record_id}", HTTPStatus.SEE_OTHER)


@blueprint.post("/page/<int:record_id>/tags")
@policy(is_limited=False)
def tag(record_id: int) -> Response:
    """Add tags to a record, or remove tags."""
    add, remove = parse_tags(request.form.get("add", "")), request.form.getlist("remove")
    for new_tag in add:
        validate_tag(new_tag)
    state.get_state().store.change_tags(record_id, add, remove)
    return _to_record(record_id)


@blueprint.post("/page/<int:record_id>/title")
@policy(is_limited=False)
def title(record_id: int) -> Response:
    """Set the title of a record, or remove it."""
    store = state.get_state().store
    store.annotate(record_id, title=parse_title(request.form.get("title", "")))
    return _to_record(record_id)


def _to_record(record_id: int) -> Response:
    return redirect(f"/page/{record_id}#r{record_id}", HTTPStatus.SEE_OTHER)


def _page(  # noqa: PLR0913 - the parts of the page, by name
    *,
    question: str = "",
    thread: Thread | None = None,
    current: int | None = None,
    problem: str | None = None,
    status: int = HTTPStatus.OK,
    form: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
) -> tuple[str, int]:
    """Render the page.

    Args:
        question: The text in the form.
        thread: The record in its thread; None for a new question.
        current: The id of the record that the page is about.
        problem: The error in the form that was sent.
        status: The HTTP status.
        form: The fields of the form; None for those that were sent.
        files: The names of the files of a question that is asked again.
    """
    listing = load_listing(state.get_state().store, Query.from_args(request.args), now())
    if listing.problem and status == HTTPStatus.OK:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    g.words = listing.query.words
    conversation = None
    answers: list[QuestionAnswer] = []
    if current is not None:
        records = thread.records if thread else []
        shown = next((item for item in records if item.id == current), None)
        answers = same_question(state.get_state().store, shown) if shown else []
        threads = threads_of(state.get_state().store, [current])
        conversation = threads[current].id if current in threads else current
    page = render_template(
        "page.html",
        listing=listing,
        thread=thread,
        current=current,
        question=question,
        answers=answers,
        conversation=conversation,
        form=request.form if form is None else form,
        files=files,
        problem=problem,
        removed=request.args.get("removed", type=int),
        examples=EXAMPLES,
        efforts=EFFORTS,
        profiles=_profiles(),
        default_model=_default_model(),
    )
    return page, status


def _profiles() -> list[str]:
    """Return the names of the providers to choose from; empty if there is nothing to choose."""
    upstreams = state.get_state().providers.upstreams
    return list(upstreams.settings) if upstreams.names else []


def _default_model() -> str:
    """Return the default model; empty if no provider is configured."""
    try:
        return state.get_state().model(None)
    except QaError:
        return ""
