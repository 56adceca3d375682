"""The route that asks a question: `POST /ask`."""

from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from qacli.attachments import Attachment
from qacli.domain import DeferredQuestion, Question, Status, create_question
from qacli.json_schema import response_format, schema_from_shorthand
from qacli.model_options import OPTION_NAMES, check_names
from qacli.serializers import field_values, result_to_dict
from qacli.services.follow_up import FollowUpOptions, first_system, schema_of
from qacli.tools import parse_tool
from qacli.web import idempotency, sse, state
from qacli.web.answer import AnswerStream, start_answer
from qacli.web.api.responses import Event, Record
from qacli.web.api.schemas import AskHeaders, AskRequest
from qacli.web.openapi import JSON, ResponseSpec, openapi_operation
from qacli.web.state import AppState

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer

blueprint = Blueprint("asks", __name__)

COMPRESSED = "The body must be sent without a Content-Encoding."


class CompressedBody(UnsupportedMediaType):
    """The body has a Content-Encoding; the response names what can be sent (RFC 9110, 15.5.16)."""

    def get_headers(self, *arguments: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - werkzeug's
        """Return the headers of the response."""
        return [*super().get_headers(*arguments), ("Accept-Encoding", "identity")]


def body(limit: int | None = None) -> bytes:
    """Return the body of the request.

    Args:
        limit: The number of bytes at most; None means the limit of most routes.

    Raises:
        RequestEntityTooLarge: The body is larger than the limit.
        UnsupportedMediaType: The body is not sent as JSON, or it is compressed.
    """
    if not request.is_json:
        raise UnsupportedMediaType
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise CompressedBody(COMPRESSED)
    return raw_body(limit).removeprefix(BOM_UTF8)


def raw_body(limit: int | None = None) -> bytes:
    """Return the body of the request, of any type; see `body`."""
    limit = limit or int(current_app.config["MAX_CONTENT_LENGTH"])
    try:
        # One byte more: Flask would silently cut a body without a Content-Length at the limit.
        request.max_content_length = limit + 1
        data = request.get_data()
        if len(data) > limit:
            raise RequestEntityTooLarge
    finally:
        request.max_content_length = limit
    return data


@blueprint.post("/ask")
@openapi_operation(
    {
        200: ResponseSpec("The record, or events.", {JSON: Record, sse.MIME_TYPE: Event}),
        202: ResponseSpec(
            "The question is accepted and answered later (`Prefer: respond-async`).",
            {JSON: Record},
            ["Location", "Preference-Applied"],
        ),
    },
    body=AskRequest,
    headers=AskHeaders,
    errors=(400, 404, 409, 413, 415, 422, 429, 502, 503, 504),
)
def ask() -> Response:
    """Ask a question; return its record, or events while the answer arrives.

    With `Accept: text/event-stream` or `"stream": true` the events are `record` (its id),
    `reasoning` (a piece of the model's reasoning), `delta` (a piece of text) and `done` (the whole
    record) or `error` (a problem). With `Prefer: respond-async` the record is returned at once,
    and answered later. A second request of the same caller with the same `Idempotency-Key` and
    body returns the first record.
    """
    ask_request = AskRequest.model_validate_json(body())
    headers = AskHeaders.model_validate(dict(request.headers))
    app_state = state.get_state()
    question = _apply_headers(headers, _question_from_body(ask_request, app_state))
    streamed = _accepts_events() if ask_request.stream is None else ask_request.stream
    heartbeat = sse.KEEP_ALIVE_SECONDS if streamed else None
    start = partial(start_answer, app_state, question, app_state.store, heartbeat_seconds=heartbeat)
    answer = idempotency.begin_or_replay(app_state, question, start, heartbeat_seconds=heartbeat)
    if headers.is_async:
        return _deferred_response(answer)
    return sse.answer_events(answer) if streamed else jsonify(result_to_dict(answer.result()))


def _deferred_response(answer: AnswerStream) -> Response:
    """Return the record; with 202 and its address if it is not answered yet."""
    record = answer.to_dict()
    answer.complete_in_background()
    response = jsonify(record)
    response.headers["Preference-Applied"] = "respond-async"
    if record["status"] == Status.ASKING:
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Location"] = f"/qa/{record['id']}"
    return response


def start(
    ask_request: AskRequest,
    *,
    attachments: Sequence[Attachment] = (),
    repeats: "QuestionAnswer | None" = None,
    heartbeat_seconds: float | None = None,
) -> AnswerStream:
    """Start to answer a request.

    Args:
        ask_request: The request.
        attachments: The files that are sent with the question.
        repeats: The record whose question this is; it has its options, unless others are named.
        heartbeat_seconds: See `qacli.web.answer.start_request`.

    Raises:
        InvalidRequest: The question cannot be asked.
        NotFound: There is no record with the id that it follows up.
        QaError: See `AnswerStream`.
    """
    app_state = state.get_state()
    question = replace(
        _question_from_body(ask_request, app_state, repeats),
        repeats_id=(repeats.repeats_id or repeats.id) if repeats else None,
        attachments=[file.to_dict() for file in attachments],
    )
    return start_answer(
        app_state,
        question,
        app_state.store,
        parts=[file.part for file in attachments],
        heartbeat_seconds=heartbeat_seconds,
    )


def _question_from_body(
    ask_request: AskRequest, app_state: AppState, repeats: "QuestionAnswer | None" = None
) -> Question:
    before = FollowUpOptions()
    record, schema = repeats, ask_request.answer_schema
    if repeats is None and ask_request.follows_id is not None:
        record = app_state.store.get(ask_request.follows_id)
    elif repeats is not None and schema is None:
        schema = schema_of(repeats)
    if record is not None:
        before = FollowUpOptions.of(record, app_state.endpoint_before(record))
    model = app_state.model(ask_request.model or before.model)
    check_names(ask_request.options)
    named = {name: getattr(ask_request, name) for name in OPTION_NAMES}
    tools = (tool if isinstance(tool, str) else tool.model_dump() for tool in ask_request.tools)
    named["tools"] = [parse_tool(tool) for tool in tools] or None
    return create_question(
        ask_request.question,
        model=model,
        system=first_system(ask_request.system, before.system, app_state.system),
        params=before.merge(model, app_state.default_params, named, ask_request.options),
        response_format=_response_format(schema),
        tags=ask_request.tags,
        follows_id=ask_request.follows_id,
    )


def _apply_headers(headers: AskHeaders, question: Question) -> Question:
    question = replace(question, idempotency_key=headers.idempotency_key)
    return DeferredQuestion(**field_values(question)) if headers.is_async else question


def _response_format(schema: dict[str, Any] | str | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    # A text is never a path: clients cannot choose the files that are opened.
    return response_format(schema_from_shorthand(schema) if isinstance(schema, str) else schema)


def _accepts_events() -> bool:
    accepted = request.accept_mimetypes
    return accepted.best_match([JSON, sse.MIME_TYPE]) == sse.MIME_TYPE
