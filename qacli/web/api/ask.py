"""`POST /ask`."""

from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from qacli.domain import DeferredQuestion, Question, Status, create_question
from qacli.json_schema import response_format, schema_from_shorthand
from qacli.serializers import field_values, result_to_dict
from qacli.tools import parse_tool
from qacli.web import idempotency, sse, state
from qacli.web.answer import AnswerStream, start_answer
from qacli.web.api.responses import Event, Record
from qacli.web.api.schemas import AskHeaders, AskRequest
from qacli.web.openapi import JSON, describe
from qacli.web.openapi import ResponseSpec as Answered
from qacli.web.state import AppState

blueprint = Blueprint("asks", __name__)


def body() -> bytes:
    """The body, whole or refused: one without a declared length would be cut off at the limit.

    Raises:
        RequestEntityTooLarge: It is larger than a request may be.
        UnsupportedMediaType: It is not sent as JSON.
    """
    if not request.is_json:
        raise UnsupportedMediaType
    limit = current_app.config["MAX_CONTENT_LENGTH"]
    request.max_content_length = limit + 1
    data = request.get_data()
    if len(data) > limit:
        raise RequestEntityTooLarge
    return data


@blueprint.post("/ask")
@describe(
    {
        200: Answered("The record, or events.", {JSON: Record, sse.MIME_TYPE: Event}),
        202: Answered(
            "It will be answered, as `Prefer: respond-async` asks for.",
            {JSON: Record},
            ["Location", "Preference-Applied"],
        ),
    },
    body=AskRequest,
    headers=AskHeaders,
    errors=(400, 404, 409, 413, 415, 422, 429, 502, 503, 504),
)
def ask() -> Response:
    """Ask a question; answers with its record, or with events while the answer arrives.

    With `Accept: text/event-stream` or `"stream": true` the events are `record` (its id), `delta`
    (a piece of text) and `done` (the whole record) or `error` (a problem). With
    `Prefer: respond-async` the record is there at once, and answered later. The same
    `Idempotency-Key` and body again from the same caller is answered with the first record.
    """
    ask_request = AskRequest.model_validate_json(body())
    headers = AskHeaders.model_validate(dict(request.headers))
    current = state.get_state()
    question = _apply_headers(headers, _question_from_body(ask_request, current))
    streamed = _wants_events() if ask_request.stream is None else ask_request.stream
    heartbeat = sse.KEEP_ALIVE_SECONDS if streamed else None
    start = partial(start_answer, current, question, current.store, heartbeat_seconds=heartbeat)
    answer = idempotency.begin_or_replay(current, question, start, heartbeat_seconds=heartbeat)
    if headers.wants_no_wait:
        return _deferred_response(answer)
    return sse.answer_events(answer) if streamed else jsonify(result_to_dict(answer.result()))


def _deferred_response(answer: AnswerStream) -> Response:
    """Return the record, with 202 and its address where it is not answered yet."""
    record = answer.to_dict()
    answer.complete_in_background()
    response = jsonify(record)
    response.headers["Preference-Applied"] = "respond-async"
    if record["status"] == Status.ASKING:
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Location"] = f"/qa/{record['id']}"
    return response


def start(asked: AskRequest, *, heartbeat_seconds: float | None = None) -> AnswerStream:
    """Start to answer a request.

    Args:
        asked: The request.
        heartbeat_seconds: See `qacli.web.answer.start_request`.

    Raises:
        InvalidRequest: It cannot be asked.
        NotFound: There is no record with the id that it follows up.
        QaError: As `AnswerStream`.
    """
    current = state.get_state()
    question = _question_from_body(asked, current)
    return start_answer(current, question, current.store, heartbeat_seconds=heartbeat_seconds)


def _question_from_body(asked: AskRequest, current: AppState) -> Question:
    return create_question(
        asked.question,
        model=current.model(asked.model),
        system=current.system if asked.system is None else asked.system,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        response_format=_response_format(asked.answer_schema),
        tools=[
            parse_tool(tool if isinstance(tool, str) else tool.model_dump()) for tool in asked.tools
        ],
        tags=asked.tags,
        follows_id=asked.follows_id,
    )


def _apply_headers(given: AskHeaders, asked: Question) -> Question:
    keyed = replace(asked, idempotency_key=given.idempotency_key)
    return DeferredQuestion(**field_values(keyed)) if given.wants_no_wait else keyed


def _response_format(given: dict[str, Any] | str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    # A text is never a path: clients cannot choose the files that are opened.
    return response_format(schema_from_shorthand(given) if isinstance(given, str) else given)


def _wants_events() -> bool:
    accepted = request.accept_mimetypes
    return accepted.best_match([JSON, sse.MIME_TYPE]) == sse.MIME_TYPE
