"""`POST /ask`."""

from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from qacli.confined import Confined
from qacli.exchange import Accepted, Ask, Status, compose, fields_of
from qacli.structure import response_format, schema_of_fields
from qacli.turns import TURNS
from qacli.web import answering, events, replay, service
from qacli.web.answering import Answer, Readable
from qacli.web.openapi import JSON, described
from qacli.web.openapi import Answer as Answered
from qacli.web.replies import Event, Record
from qacli.web.schemas import AskBody, AskHeaders
from qacli.web.service import Service

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
@described(
    {
        200: Answered("The record, or events.", {JSON: Record, events.MIME_TYPE: Event}),
        202: Answered(
            "It will be answered, as `Prefer: respond-async` asks for.",
            {JSON: Record},
            ["Location", "Preference-Applied"],
        ),
    },
    body=AskBody,
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
    asked = AskBody.model_validate_json(body())
    given = AskHeaders.model_validate(dict(request.headers))
    current = service.current()
    composed = _as_headers_say(given, _composed(asked, current))
    streamed = _wants_events() if asked.stream is None else asked.stream
    beat = events.KEEP_ALIVE_SECONDS if streamed else None
    make = partial(answering.answer_to, current, composed, current.store, beat=beat)
    answer = replay.started(current, composed, make, beat=beat)
    if given.wants_no_wait:
        return _accepted(answer)
    return events.of_answer(answer) if streamed else jsonify(answer.whole())


def _accepted(answer: Readable) -> Response:
    """That it will be answered, and where; or the record, where it already has been."""
    record = answer.document()
    answer.go_on()
    response = jsonify(record)
    response.headers["Preference-Applied"] = "respond-async"
    if record["status"] == Status.ASKING:
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Location"] = f"/qa/{record['id']}"
    return response


def answer_to(asked: AskBody, *, beat: float | None) -> Answer:
    """What answers a request; nothing is kept or asked yet.

    Args:
        asked: The request.
        beat: See `Answer`.

    Raises:
        InvalidRequest: It cannot be asked.
        NotFound: What it follows up is not there.
    """
    current = service.current()
    return answering.answer_to(current, _composed(asked, current), current.store, beat=beat)


def _composed(asked: AskBody, current: Service) -> Ask:
    return compose(
        asked.question,
        model=current.model(asked.model),
        system=current.system if asked.system is None else asked.system,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        response_format=_response_format(asked.answer_schema),
        tags=asked.tags,
        follows_id=asked.follows_id,
    )


def _as_headers_say(given: AskHeaders, asked: Ask) -> Ask:
    keyed = replace(asked, idempotency_key=given.idempotency_key)
    return Accepted(**fields_of(keyed)) if given.wants_no_wait else keyed


def _response_format(given: dict[str, Any] | str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    TURNS.give()
    if isinstance(given, str):
        # No path: which files are opened is not for clients to say. It is not checked as a schema
        # either: that takes a minute for the most fields that a body has room for.
        return response_format(schema_of_fields(given))
    Confined(given).refuse_unusable()
    return response_format(given)


def _wants_events() -> bool:
    accepted = request.accept_mimetypes
    return accepted.best_match([JSON, events.MIME_TYPE]) == events.MIME_TYPE
