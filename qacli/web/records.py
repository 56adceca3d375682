"""`/qa/{id}` and `/qas`."""

from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request

from qacli.store.filters import Filter
from qacli.web import service
from qacli.web.schemas import QasQuery

blueprint = Blueprint("records", __name__)


@blueprint.get("/qa/<int:record_id>")
def get(record_id: int) -> dict[str, Any]:
    """One record."""
    return service.current().store.document(record_id)


@blueprint.delete("/qa/<int:record_id>")
def delete(record_id: int) -> tuple[str, int]:
    """Remove a record."""
    service.current().store.remove(record_id)
    return "", 204


@blueprint.get("/qas")
@blueprint.get("/qas/")
def page() -> Response:
    """A page of records as an array; the next page is in the Link header (RFC 8288)."""
    query = QasQuery.model_validate(request.args.to_dict())
    newest_first = query.order == "desc"
    records = service.current().store.page(
        limit=query.limit + 1,
        after=query.after,
        before=query.before,
        newest_first=newest_first,
        only=Filter(
            search=query.q,
            model=query.model,
            status=query.status,
            tag=query.tag,
            since=query.since,
            until=query.until,
        ),
    )
    response = jsonify([item.document() for item in records[: query.limit]])
    if len(records) > query.limit:
        edge = {"before" if newest_first else "after": records[query.limit - 1].id}
        asked = query.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        following = {**asked, **edge}
        response.headers["Link"] = f'<{request.path}?{urlencode(following)}>; rel="next"'
    return response
