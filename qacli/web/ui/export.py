"""A conversation as a file."""

from flask import Response

from qacli.serializers import to_markdown
from qacli.web import state
from qacli.web.ui.document import html_document
from qacli.web.ui.views import blueprint


@blueprint.get("/page/<int:record_id>/thread.md")
def export_markdown(record_id: int) -> Response:
    """Return a record, and those that it follows up, as a Markdown file."""
    records = state.get_state().store.thread(record_id)
    text = "\n".join(to_markdown(record.to_dict()) for record in records)
    return _file(text, f"qa-{record_id}.md", "text/markdown")


@blueprint.get("/page/<int:record_id>/thread.html")
def export_html(record_id: int) -> Response:
    """Return a record, and those that it follows up, as one HTML file that needs no other."""
    records = state.get_state().store.thread(record_id)
    text = "\n".join(html_document(record.to_dict() for record in records))
    return _file(text, f"qa-{record_id}.html", "text/html")


def _file(text: str, name: str, mime_type: str) -> Response:
    response = Response(text, content_type=f"{mime_type}; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
