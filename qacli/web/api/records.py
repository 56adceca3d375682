"""Routes that read, change and delete records: `/qa/{id}` and `/qas`."""

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from http import HTTPStatus
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import PreconditionFailed

from qacli.db.records import RecordCheck
from qacli.domain import Status
from qacli.errors import InvalidRequest, QaError
from qacli.serializers import to_json_line
from qacli.web import errors, state
from qacli.web.api.ask import body
from qacli.web.api.responses import Deleted, Record
from qacli.web.api.schemas import (
    ChangeHeaders,
    DeleteHeaders,
    ListAllQuery,
    ListQuery,
    TagsRequest,
)
from qacli.web.live_answers import cancel_answer
from qacli.web.openapi import JSON, ResponseSpec, openapi_operation
from qacli.web.request_context import keep_context
from qacli.web.route_policy import policy

blueprint = Blueprint("records", __name__)

LINES = "application/x-ndjson"
CHANGED = "The record has another version now. Read it again, and send its ETag in If-Match."
Records = list[Record]  # type: ignore[valid-type]


@blueprint.get("/qa/<int:record_id>")
@openapi_operation(
    {
        200: ResponseSpec("The record.", {JSON: Record}, ["ETag"]),
        304: ResponseSpec("The record is the version in `If-None-Match`.", headers=["ETag"]),
    },
    errors=(404, 503),
)
def get(record_id: int) -> Response:
    """Return one record.

    While the question is asked (`status` is `asking`), `answer` and `reasoning` are the text so
    far; a server process stores it about once a second.

    A record of another caller gives 404, like an id that does not exist; an administrator can
    read all records. The same holds for every route with an id.
    """
    response = jsonify(state.get_state().store.get_dict(record_id))
    etag = _etag_of(response)
    response.headers["ETag"] = f'"{etag}"'
    response.headers["Cache-Control"] = "private, no-cache"
    if "If-None-Match" in request.headers and request.if_none_match.contains_weak(etag):
        response.status_code = 304
        response.set_data(b"")
        del response.headers["Content-Type"]
    return response


def _etag_of(response: Response) -> str:
    """Return the version of the record in a response."""
    # A hash of the body: it needs no version column, and takes a hundredth of the reading time.
    return blake2b(response.get_data(), digest_size=12).hexdigest()


def _version_check() -> RecordCheck | None:
    """Return the check of the request's If-Match header (RFC 9110, section 13.1.1), if it has one.

    Raises:
        PreconditionFailed: By the check: the record is not one of the versions in the header.
    """
    if "If-Match" not in request.headers:
        return None
    versions = request.if_match

    def check(record: dict[str, Any]) -> None:
        # Not a weak one: that says nothing of each byte.
        if not versions.star_tag and not versions.is_strong(_etag_of(jsonify(record))):
            raise PreconditionFailed(CHANGED)

    return check


@blueprint.post("/qa/<int:record_id>/cancel")
@policy(is_limited=False)
@openapi_operation(
    {
        200: ResponseSpec("The record, interrupted, with what had arrived.", {JSON: Record}),
        202: ResponseSpec(
            "The process that receives the answer will cancel it.", {JSON: Record}, ["Location"]
        ),
    },
    errors=(404, 409, 503),
)
def cancel(record_id: int) -> Response:
    """Cancel the answer to a question that is being asked; the part that has arrived is kept.

    Any server process on the same database can be asked. An answer that another process receives
    ends within about a second; the response is 202 if it takes longer. A client that waits for the
    answer gets the error `cancelled`. A record that is complete gives 409. An answer that a
    command line on the same database receives cannot be cancelled here.
    """
    app_state = state.get_state()
    record = cancel_answer(app_state.live, app_state.store, record_id).to_dict()
    response = jsonify(record)
    if record["status"] == Status.ASKING:
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Location"] = f"/qa/{record_id}"
    return response


@blueprint.delete("/qa/<int:record_id>")
@openapi_operation(
    {
        200: ResponseSpec("The record is deleted.", {JSON: Deleted}),
        204: ResponseSpec(
            "The record is deleted (`Prefer: return=minimal`).", headers=["Preference-Applied"]
        ),
    },
    headers=DeleteHeaders,
    errors=(404, 412, 503),
)
def delete(record_id: int) -> Response:
    """Delete a record."""
    headers = DeleteHeaders.model_validate(dict(request.headers))
    state.get_state().store.remove(record_id, _version_check())
    if not headers.is_body_unneeded:
        return jsonify(Deleted(id=record_id, deleted=True).model_dump())
    response = Response(status=HTTPStatus.NO_CONTENT)
    response.headers["Preference-Applied"] = "return=minimal"
    del response.headers["Content-Type"]
    return response


@blueprint.patch("/qa/<int:record_id>")
@openapi_operation(
    {200: ResponseSpec("The record, with its new tags.", {JSON: Record}, ["ETag"])},
    body=TagsRequest,
    headers=ChangeHeaders,
    errors=(400, 404, 412, 413, 415, 422, 503),
)
def tag(record_id: int) -> Response:
    """Add tags to a record, and remove tags."""
    change = TagsRequest.model_validate_json(body())
    store = state.get_state().store
    store.change_tags(record_id, change.add_tags, change.remove_tags, _version_check())
    response = jsonify(store.get_dict(record_id))
    response.headers["ETag"] = f'"{_etag_of(response)}"'
    return response


@blueprint.get("/qa/<int:record_id>/thread")
@openapi_operation(
    {200: ResponseSpec("The records, oldest first.", {JSON: Records})}, errors=(404, 503)
)
def thread(record_id: int) -> Response:
    """Return a record and all records that it follows up, oldest first."""
    return jsonify([record.to_dict() for record in state.get_state().store.thread(record_id)])


@blueprint.get("/qas")
@blueprint.get("/qas/")
@openapi_operation(
    {200: ResponseSpec("The records.", {JSON: Records, LINES: Records}, ["Link"])},
    query=ListQuery,
    errors=(422, 503),
)
def page() -> Response:
    """Return a page of records as an array; the Link header has the next page (RFC 8288).

    They are the caller's own records; an administrator gets the records of all callers.

    With `Accept: application/x-ndjson` there are no pages: all records come as lines of JSON, at
    most `limit` if it is set. If reading fails on the way, the last line is a problem document.
    """
    if request.accept_mimetypes.best_match([JSON, LINES]) == LINES:
        return _lines(ListAllQuery.model_validate(_parameters()))
    query = ListQuery.model_validate(_parameters())
    store = state.get_state().store
    if query.order == "best":
        # A rank is not a key that a next page could begin at.
        return jsonify([record.to_dict() for record in store.search(query.only(), query.limit)])
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
        args = query.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        response.headers["Link"] = (
            f'<{request.script_root}{request.path}?{urlencode({**args, **edge})}>; rel="next"'
        )
    return response


def _parameters() -> dict[str, str]:
    """Return the parameters of the request's query.

    Raises:
        InvalidRequest: One has several values, of which only one would count.
    """
    for name, values in request.args.lists():
        if len(values) > 1:
            raise InvalidRequest(f"The query has {name} {len(values)} times.", "Give it once.")
    return request.args.to_dict()


def _lines(query: ListAllQuery) -> Response:
    """Stream records as lines while they are read, with one page of them in memory."""
    app_state, in_request = state.get_state(), keep_context()
    with ExitStack() as stack:
        # A slow client occupies a thread, like a question in flight.
        stack.enter_context(app_state.slot())
        records = _json_lines(query, app_state)
        # Read the first record now: an error can still have its own status.
        first = [record for record in [next(records, None)] if record is not None]
        slot = stack.pop_all()

    def lines() -> Iterator[str]:
        with slot:
            try:
                for line in chain(first, records):
                    yield line + "\n"
            except QaError as error:
                # A broken stream would look like the end of the history.
                with in_request():
                    problem = errors.problem_for(error).to_json()
                yield problem + "\n"

    response = Response(lines(), content_type=LINES)
    response.call_on_close(slot.close)  # also if the client left before the first line
    return response


def _json_lines(query: ListAllQuery, app_state: state.AppState) -> Iterator[str]:
    """Return the records that a query selects, each as a line of JSON."""
    if query.order == "best":
        records = app_state.store.search(query.only(), query.limit or 1000)
        return (to_json_line(record.to_dict()) for record in records)
    return app_state.store.json_lines(
        query.only(),
        after=query.after,
        before=query.before,
        limit=query.limit,
        newest_first=query.order == "desc",
    )
