"""`/qa/{id}` and `/qas`."""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request

from qacli.errors import QaError
from qacli.serializers import to_json_line
from qacli.web import errors, state
from qacli.web.api.ask import body
from qacli.web.api.responses import Record
from qacli.web.api.schemas import ListAllQuery, ListQuery, TagsRequest
from qacli.web.openapi import JSON, ResponseSpec, describe
from qacli.web.request_context import keep_context

blueprint = Blueprint("records", __name__)

LINES = "application/x-ndjson"
Records = list[Record]  # type: ignore[valid-type]


@blueprint.get("/qa/<int:record_id>")
@describe(
    {
        200: ResponseSpec("The record.", {JSON: Record}, ["ETag"]),
        304: ResponseSpec("It is the version that `If-None-Match` names.", headers=["ETag"]),
    },
    errors=(404, 503),
)
def get(record_id: int) -> Response:
    """One record.

    The record of another caller is not found, as one that does not exist; an administrator finds
    all. So it is with every address of a record.
    """
    response = jsonify(state.get_state().store.get_dict(record_id))
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
@describe({204: ResponseSpec("It is gone.")}, errors=(404, 503))
def delete(record_id: int) -> tuple[str, int]:
    """Remove a record."""
    state.get_state().store.remove(record_id)
    return "", 204


@blueprint.patch("/qa/<int:record_id>")
@describe(
    {200: ResponseSpec("The record, with its new tags.", {JSON: Record})},
    body=TagsRequest,
    errors=(400, 404, 413, 415, 422, 503),
)
def tag(record_id: int) -> dict[str, Any]:
    """Add tags to a record, and take others off."""
    change = TagsRequest.model_validate_json(body())
    store = state.get_state().store
    store.change_tags(record_id, change.add_tags, change.remove_tags)
    return store.get_dict(record_id)


@blueprint.get("/qa/<int:record_id>/thread")
@describe({200: ResponseSpec("The records, the oldest first.", {JSON: Records})}, errors=(404, 503))
def thread(record_id: int) -> Response:
    """A record and all that it follows up, the oldest first."""
    return jsonify([each.to_dict() for each in state.get_state().store.thread(record_id)])


@blueprint.get("/qas")
@blueprint.get("/qas/")
@describe(
    {200: ResponseSpec("The records.", {JSON: Records, LINES: Records}, ["Link"])},
    query=ListQuery,
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
        return _lines(ListAllQuery.model_validate(request.args.to_dict()))
    query = ListQuery.model_validate(request.args.to_dict())
    store = state.get_state().store
    if query.order == "best":
        # The rank of a match is no key that a next page could begin at.
        return jsonify([each.to_dict() for each in store.search(query.only(), query.limit)])
    newest_first = query.order == "desc"
    records = list(
        store.dicts(
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


def _lines(query: ListAllQuery) -> Response:
    """Stream records as lines while they are read, with one page of them in memory."""
    current, in_request = state.get_state(), keep_context()

    def lines() -> Iterator[str]:
        # A slow client holds a thread, as a question in flight does.
        with current.slot():
            found = _chosen(query, current)
            first = next(found, None)
            yield ""  # what fails at once fails before the response begins
            try:
                for line in chain([first] if first else [], found):
                    yield line + "\n"
            except QaError as error:
                # A broken stream would look like the end of the history.
                with in_request():
                    problem = errors.problem_for(error).to_json()
                yield problem + "\n"

    streamed = lines()
    next(streamed)
    return Response(streamed, content_type=LINES)


def _chosen(query: ListAllQuery, current: state.AppState) -> Iterator[str]:
    if query.order == "best":
        found = current.store.search(query.only(), query.limit or 1000)
        return (to_json_line(each.to_dict()) for each in found)
    return current.store.json_lines(
        query.only(),
        after=query.after,
        before=query.before,
        limit=query.limit,
        newest_first=query.order == "desc",
    )
