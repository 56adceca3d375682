"""The page with answers side by side."""

from flask import render_template, request

from qacli.domain import now
from qacli.errors import InvalidRequest
from qacli.services.compare import compare_records, figures, same_question
from qacli.web import state
from qacli.web.ui.history_list import Query, load_listing
from qacli.web.ui.render_cache import PAGE_SECONDS
from qacli.web.ui.views import blueprint

MAX_COLUMNS = 6
"""Answers that are compared on a page."""


@blueprint.get("/page/<int:record_id>/compare")
def compare(record_id: int) -> str:
    """Compare a record's answer with those of the records in `with`, or to the same question."""
    store = state.get_state().store
    record = store.get(record_id)
    others = [store.get(number) for number in request.args.getlist("with", type=int)]
    others = [item for item in others or same_question(store, record) if item.id != record_id]
    if not others:
        raise InvalidRequest(
            f"Record {record_id} is the only answer to its question.", "Choose another record."
        )
    records = sorted([record, *others[: MAX_COLUMNS - 1]], key=lambda item: item.id or 0)
    return render_template(
        "compare.html",
        records=records,
        rows=[figures(item) for item in records],
        comparisons=compare_records(records, PAGE_SECONDS / len(records)),
        listing=load_listing(store, Query(), now()),
    )
