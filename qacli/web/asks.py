"""`POST /ask`."""

from typing import Any

from flask import Blueprint, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from qacli.asking import turns_before
from qacli.exchange import Turn, compose, document
from qacli.web import service
from qacli.web.schemas import AskBody

blueprint = Blueprint("asks", __name__)


def _body() -> bytes:
    """The body, whole or refused: one without a declared length would be cut off at the limit."""
    limit = current_app.config["MAX_CONTENT_LENGTH"]
    request.max_content_length = limit + 1
    data = request.get_data()
    if len(data) > limit:
        raise RequestEntityTooLarge
    return data


@blueprint.post("/ask")
def ask() -> dict[str, Any]:
    """Ask a question; answers with its record once the answer is complete."""
    if not request.is_json:
        raise UnsupportedMediaType
    body = AskBody.model_validate_json(_body())
    current = service.current()
    asked = compose(
        body.question,
        model=current.model(body.model),
        system=current.system if body.system is None else body.system,
        temperature=body.temperature,
        max_tokens=body.max_tokens,
        tags=body.tags,
        follows_id=body.follows_id,
    )
    turns: list[Turn] = []
    if body.follows_id is not None:
        turns, _ = turns_before(current.store, body.follows_id, current.context_tokens)
    with current.place(), current.asking.ask(asked, reserve=True, turns=turns) as exchange:
        for _ in exchange:
            pass
    return document(asked, exchange.outcome, exchange.record_id)
