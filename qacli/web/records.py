"""`/qa/{id}` and `/qas`."""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request
from pydantic_core import to_json

from qacli.errors import QaError
from qacli.web import problems, service
from qacli.web.access import for_stream
from qacli.web.asks import body
from qacli.web.openapi import JSON, Answer, described
from qacli.web.replies import Record
from qacli.web.schemas import QasQuery, TagChange, WholeQuery

blueprint = Blueprint("records", __name__)

LINES = "application/x-ndjson"
Records = list[Record]  # type: ignore[valid-type]


@blueprint.get("/qa/<int:record_id>")
@described(
    {
        200: Answer("The record.", {JSON: Record}, ["ETag"]),
        304: Answer("It is the version that `If-None-Match` names.", headers=["ETag"]),
    },
    errors=(404, 503),
)
def get(record_id: int) -> Response:
    """One record.

    The record of another caller is not found, as one that does not exist; an administrator finds
    all. So it is with every address of a record.
    """
    response = jsonify(service.current().store.document(record_id))
    # Of what is sent, so that it is right by itself; it takes a hundredth of what reading takes.
    tag = blake2b(response.get_data(), digest_size=12).hexdigest()
    response.headers["ETag"] = f'"{tag}"'
    response.headers["Cache-Control"] = "private, no-cache"
    if "If-None-Match" in request.headers and request.if_none_match.contains_weak(tag):
        response.status_code = 304
        response.set_data(b"")
        del response.headers["Content-Type"]
    return response


@blueprint.delete("/qa/<int:record_id>")
@described({204: Answer("It is gone.")}, errors=(404, 503))
def delete(record_id: int) -> tuple[str, int]:
    """Remove a record."""
    service.current().store.remove(record_id)
    return "", 204


@blueprint.patch("/qa/<int:record_id>")
@described(
    {200: Answer("The record, with its new tags.", {JSON: Record})},
    body=TagChange,
    errors=(400, 404, 413, 415, 422, 503),
)
def tag(record_id: int) -> dict[str, Any]:
    """Add tags to a record, and take others off."""
    change = TagChange.model_validate_json(body())
    store = service.current().store
    store.tag(record_id, change.add_tags, change.remove_tags)
    return store.document(record_id)


@blueprint.get("/qa/<int:record_id>/thread")
@described({200: Answer("The records, the oldest first.", {JSON: Records})}, errors=(404, 503))
def thread(record_id: int) -> Response:
    """A record and all that it follows up, the oldest first."""
    return jsonify([each.document() for each in service.current().store.thread(record_id)])


@blueprint.get("/qas")
@blueprint.get("/qas/")
@described(
    {200: Answer("The records.", {JSON: Records, LINES: Records}, ["Link"])},
    query=QasQuery,
    errors=(422, 503),
)
def page() -> Response:
    """A page of records as an array; the next page is in the Link header (RFC 8288).

    They are the caller's own records, and for an administrator those of all callers.

    With `Accept: application/x-ndjson` there are no pages: all records, a line each, as many as
    there are unless `limit` says otherwise. Where they cannot be read to the end, the last line is
    a problem.
    """
    if request.accept_mimetypes.best_match([JSON, LINES]) == LINES:
        return _lines(WholeQuery.model_validate(request.args.to_dict()))
    query = QasQuery.model_validate(request.args.to_dict())
    store = service.current().store
    if query.order == "best":
        # The rank of a match is no key that a next page could begin at.
        return jsonify([each.document() for each in store.search(query.only(), query.limit)])
    newest_first = query.order == "desc"
    records = list(
        store.documents(
            query.only(),
            after=query.after,
            before=query.before,
            limit=query.limit + 1,
            newest_first=newest_first,
        )
    )
    response = jsonify(records[: query.limit])
    if len(records) > query.limit:
        edge = {"before" if newest_first else "after": records[query.limit - 1]["id"]}
        asked = query.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        response.headers["Link"] = f'<{request.path}?{urlencode({**asked, **edge})}>; rel="next"'
    return response


def _lines(query: WholeQuery) -> Response:
    """Records as they are read, one page of them in memory: no history is too long."""
    current, in_request = service.current(), for_stream()

    def lines() -> Iterator[str]:
        # Whoever reads slowly holds a thread, as a question in flight does.
        with current.place():
            found = _chosen(query, current)
            first = next(found, None)
            yield ""  # what fails at once fails before the response begins
            try:
                for line in chain([first] if first else [], found):
                    yield line + "\n"
            except QaError as error:
                # To break off would look like the end.
                with in_request():
                    problem = problems.of(error)
                yield problem.get_data(as_text=True) + "\n"

    streamed = lines()
    next(streamed)
    return Response(streamed, content_type=LINES)


def _chosen(query: WholeQuery, current: service.Service) -> Iterator[str]:
    if query.order == "best":
        found = current.store.search(query.only(), query.limit or 1000)
        return (to_json(each.document()).decode() for each in found)
    return current.store.lines(
        query.only(),
        after=query.after,
        before=query.before,
        limit=query.limit,
        newest_first=query.order == "desc",
    )
