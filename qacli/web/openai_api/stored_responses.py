"""Routes for earlier responses: `GET` and `DELETE /v1/responses/{id}`, and its input items.

A provider that keeps its responses has more of them than the history: calls of its own tools,
encrypted reasoning, and the answer of a response in the background. So it is asked first where a
response has its id; the history of the caller has those that it does not keep.
"""

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, Field
from werkzeug.routing import BaseConverter

from qacli.domain import Status
from qacli.errors import InvalidRequest, NotFound, QaError
from qacli.provider.refused_features import NO_SUCH_PATH
from qacli.provider.translation.stored import TRANSLATED_TO, stored_response
from qacli.services.late_answer import record_late_answer
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
from qacli.web.route_policy import policy

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer

blueprint = Blueprint("responses", __name__, url_prefix="/responses")
"""A part of the blueprint of `/v1`, whose form of errors it has."""

ERROR = (JSON, ErrorResponse)
ERRORS = (400, 404, 409, 422, 429, 502, 503, 504)
RECORDED = ["X-QA-Record"]


class ResponseIdConverter(BaseConverter):
    """The id of a response in a path: not the name of an operation, which is an unknown path here.

    Without it, `POST /v1/responses/compact` is a response that does not take POST.
    """

    regex = r"(?!(?:input_tokens|compact)$)[^/]+"


class ResponseQuery(BaseModel):
    """The query of `GET /v1/responses/{id}`; the provider may read more."""

    stream: bool = Field(default=False, description="Return the events of the response.")
    starting_after: int = Field(-1, description="Only events with a larger `sequence_number`.")


class InputItemsQuery(BaseModel):
    """The query of `GET /v1/responses/{id}/input_items`; the provider may read more."""

    limit: int = Field(20, ge=1, le=100, description="The maximum number of items.")
    order: Literal["asc", "desc"] = Field("desc", description="Oldest first, or newest first.")
    after: str | None = Field(None, description="Only items after the one with this id.")


@blueprint.route("/<response_id:response_id>", methods=["GET"])
@openapi_operation(
    {200: ResponseSpec("The response.", {JSON: ModelResponse, sse.MIME_TYPE: Event}, RECORDED)},
    query=ResponseQuery,
    errors=ERRORS,
    error=ERROR,
)
def get_response(response_id: str) -> Response:
    """Return an earlier response of the caller: from the provider, or from the history.

    The answer of a response in the background is recorded when it is read here.
    """
    query = ResponseQuery.model_validate(request.args.to_dict())
    record = _find(response_id)
    response = _from_provider(response_id, record, is_streamed=query.stream)
    if response is not None:
        if record is not None and not query.stream:
            record_late_answer(state.get_state().ask_service, record, response.get_data())
        return response
    if record is None:
        raise _not_found(response_id)
    result = result_of(record)
    writer = stored_response(result.question, result.outcome)
    if not query.stream:
        return with_record(jsonify(writer.response))
    writer.events = [
        event for event in writer.events if event["sequence_number"] > query.starting_after
    ]
    return with_record(Response(writer.take(), content_type=f"{sse.MIME_TYPE}; charset=utf-8"))


@blueprint.route("/<response_id:response_id>", methods=["DELETE"])
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
        response = _from_provider(response_id, None)
        if response is None:
            raise _not_found(response_id)
        return response
    state.get_state().store.remove(record.id or 0)
    return jsonify({"id": response_id, "object": "response", "deleted": True})


@blueprint.route("/<response_id:response_id>/cancel", methods=["POST"])
@policy(is_limited=False)
@openapi_operation(
    {200: ResponseSpec("The response.", {JSON: ModelResponse}, RECORDED)},
    errors=ERRORS,
    error=ERROR,
)
def cancel_response(response_id: str) -> Response:
    """Cancel a response in the background, at the provider."""
    record = _find(response_id)
    if record is not None and not _is_of_provider(record):
        raise InvalidRequest(
            "Cannot cancel a synchronous response.", "Send it with the option `background`."
        )
    response = _from_provider(response_id, record, "/cancel")
    if response is None:
        raise _not_found(response_id)
    return response


@blueprint.route("/<response_id:response_id>/input_items", methods=["GET"])
@openapi_operation(
    {200: ResponseSpec("The items.", {JSON: InputItems}, RECORDED)},
    query=InputItemsQuery,
    errors=ERRORS,
    error=ERROR,
)
def get_input_items(response_id: str) -> Response:
    """Return the conversation that an earlier response of the caller answers.

    The conversation is from the provider, or from the history.
    """
    query = InputItemsQuery.model_validate(request.args.to_dict())
    record = _find(response_id)
    response = _from_provider(response_id, record, "/input_items")
    if response is not None:
        return response
    if record is None:
        raise _not_found(response_id)
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


def _is_of_provider(record: "QuestionAnswer") -> bool:
    """Return whether the provider may have a response: it sent the id, and had to store it."""
    is_own = record.provider_response_id is None or TRANSLATED_TO in record.details
    return not is_own and record.params.get("store") is not False


def _from_provider(
    response_id: str, record: "QuestionAnswer | None", rest: str = "", *, is_streamed: bool = False
) -> Response | None:
    """Return the provider's response to the request, streamed or whole.

    Returns:
        None if it has no such response, or keeps none, or if it fails and the history has the
        answer.

    Raises:
        QaError: The provider could not be reached, and the history has no answer.
    """
    if record is not None and not _is_of_provider(record):
        return None
    is_answered = record is not None and record.status is Status.ANSWERED
    path = f"/responses/{quote(response_id, safe='')}{rest}"
    raw = raw_request(path, request.get_data(), method=request.method)
    model = "" if record is None else str(record.params.get("model", ""))
    raw = replace(raw, model=model, is_streamed=is_streamed)
    heartbeat = sse.KEEP_ALIVE_SECONDS if is_streamed else None
    try:
        response = relay_response(state.get_state().relay(raw, heartbeat_seconds=heartbeat))
    except QaError:
        if is_answered:
            return None
        raise
    failed = response.status_code >= HTTPStatus.BAD_REQUEST
    return None if response.status_code in NO_SUCH_PATH or (failed and is_answered) else response


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
