"""Routes for earlier responses: `GET` and `DELETE /v1/responses/{id}`, and its input items.

They are answered from the history of the caller. A response that is not in the history is the
provider's business: it may keep responses itself.
"""

from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, Field

from qacli.errors import NotFound
from qacli.provider.refused_features import NO_SUCH_PATH
from qacli.provider.translation.stored import stored_response
from qacli.services.record_request import request_items, result_of
from qacli.web import sse, state
from qacli.web.api.responses import Event
from qacli.web.openai_api.parse import raw_request
from qacli.web.openai_api.relay import relay_response, with_record
from qacli.web.openai_api.schemas import (
    DeletedResponse,
    ErrorResponse,
    InputItems,
    ModelResponse,
)
from qacli.web.openapi import JSON, ResponseSpec, openapi_operation
from qacli.web.request_context import current_context

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer

blueprint = Blueprint("responses", __name__, url_prefix="/responses")
"""A part of the blueprint of `/v1`, whose form of errors it has."""

ERROR = (JSON, ErrorResponse)
ERRORS = (400, 404, 409, 422, 429, 502, 503, 504)
RECORDED = ["X-QA-Record"]


class ResponseQuery(BaseModel):
    """The query of `GET /v1/responses/{id}`; the provider may read more."""

    stream: bool = Field(default=False, description="Return the events of the response.")
    starting_after: int = Field(-1, description="Only events with a larger `sequence_number`.")


class InputItemsQuery(BaseModel):
    """The query of `GET /v1/responses/{id}/input_items`; the provider may read more."""

    limit: int = Field(20, ge=1, le=100, description="The maximum number of items.")
    order: Literal["asc", "desc"] = Field("desc", description="Oldest first, or newest first.")
    after: str | None = Field(None, description="Only items after the one with this id.")


@blueprint.route("/<response_id>", methods=["GET"])
@openapi_operation(
    {200: ResponseSpec("The response.", {JSON: ModelResponse, sse.MIME_TYPE: Event}, RECORDED)},
    query=ResponseQuery,
    errors=ERRORS,
    error=ERROR,
)
def get_response(response_id: str) -> Response:
    """Return an earlier response of the caller, from the history.

    One that is not in the history is asked of the provider.
    """
    query = ResponseQuery.model_validate(request.args.to_dict())
    record = _find(response_id)
    if record is None:
        return _pass_on(response_id)
    result = result_of(record)
    writer = stored_response(result.question, result.outcome)
    if not query.stream:
        return with_record(jsonify(writer.response))
    writer.events = [
        event for event in writer.events if event["sequence_number"] > query.starting_after
    ]
    return with_record(Response(writer.take(), content_type=f"{sse.MIME_TYPE}; charset=utf-8"))


@blueprint.route("/<response_id>", methods=["DELETE"])
@openapi_operation(
    {200: ResponseSpec("The response is deleted.", {JSON: DeletedResponse})},
    errors=ERRORS,
    error=ERROR,
)
def delete_response(response_id: str) -> Response:
    """Delete an earlier response of the caller: its record, as `DELETE /qa/{id}`.

    One that is not in the history is deleted at the provider.
    """
    record = _find(response_id)
    if record is None:
        return _pass_on(response_id)
    state.get_state().store.remove(record.id or 0)
    return jsonify({"id": response_id, "object": "response", "deleted": True})


@blueprint.route("/<response_id>/input_items", methods=["GET"])
@openapi_operation(
    {200: ResponseSpec("The items.", {JSON: InputItems}, RECORDED)},
    query=InputItemsQuery,
    errors=ERRORS,
    error=ERROR,
)
def get_input_items(response_id: str) -> Response:
    """Return the conversation that an earlier response of the caller answers, from the history.

    That of a response that is not in the history is asked of the provider.
    """
    query = InputItemsQuery.model_validate(request.args.to_dict())
    record = _find(response_id)
    if record is None:
        return _pass_on(response_id, "/input_items")
    items = [
        _input_item(item, f"in_{record.uid}_{place}")
        for place, item in enumerate(request_items(state.get_state().store, record))
        if isinstance(item, dict)
    ]
    if query.order == "desc":
        items.reverse()
    places = {item["id"]: place for place, item in enumerate(items)}
    start = places.get(query.after, -1) + 1 if query.after is not None else 0
    page = items[start : start + query.limit]
    return with_record(
        jsonify(
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": start + query.limit < len(items),
            }
        )
    )


def _find(response_id: str) -> "QuestionAnswer | None":
    """Return the caller's record of a response; None if the history has none.

    Raises:
        NotFound: The response is another caller's, and the provider is not asked for it.
    """
    store, context = state.get_state().store, current_context()
    record = store.by_response_id(response_id, context.caller)
    if record is None and store.is_response_of_other(response_id, context.caller):
        raise _not_found(response_id)
    if record is not None:
        context.record_id = record.id
    return record


def _pass_on(response_id: str, rest: str = "") -> Response:
    """Return the provider's response to the request.

    Raises:
        NotFound: It has no such response, or keeps none.
    """
    raw = raw_request(f"/responses/{quote(response_id, safe='')}{rest}", b"", method=request.method)
    response = relay_response(state.get_state().relay(raw))
    if response.status_code in NO_SUCH_PATH:
        raise _not_found(response_id)
    return response


def _not_found(response_id: str) -> NotFound:
    return NotFound(
        f"Response with id '{response_id}' not found.",
        "Use the id of a response that you got here.",
    )


def _input_item(item: dict[str, Any], item_id: str) -> dict[str, Any]:
    """Return an item with an id; the text of a message becomes a part, as in OpenAI's lists."""
    whole = {"status": "completed", **item}
    whole |= {"id": item.get("id") or item_id, "type": item.get("type") or "message"}
    if whole["type"] == "message" and isinstance(item.get("content"), str):
        part: dict[str, Any] = {"type": "input_text", "text": item["content"]}
        if item.get("role") == "assistant":
            part |= {"type": "output_text", "annotations": []}
        whole["content"] = [part]
    return whole
