"""Parse a request at `/v1` into a question to record and the request that the provider gets.

The provider gets the bytes of the client. They are changed only to add the default model, or the
system prompt of QA_SYSTEM. The provider checks the request; only a request that could harm this
server is refused here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flask import request

from qacli.domain import Question
from qacli.errors import InvalidRequest
from qacli.message_digests import digests, leading_system
from qacli.provider.tool_exchange import is_tool_result
from qacli.raw_request import RawRequest
from qacli.services.record_request import answer_items, request_items
from qacli.validation import MAX_ID, sanitize_text
from qacli.web.openai_api.earlier_responses import (
    is_own_id,
    kept_by,
    previous_response,
    with_referenced_items,
)
from qacli.web.openai_api.messages import (
    NO_TEXT,
    has_only_text_and_files,
    read_conversation,
    without_files,
)
from qacli.web.openai_api.thread_search import find_record_by_texts, find_thread
from qacli.web.state import AppState

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer

NOT_RECORDED = {"model", "stream", "stream_options"}
"""Fields that are no params of a record: they have columns, or only shape the response."""

PASSED_HEADERS = ("Accept", "Content-Type", "HTTP-Referer", "OpenAI-Beta", "X-Title")
"""The headers of a request that the provider gets; the last but one names the version of an API,
the others are OpenRouter's names for the application."""

CHAT, COMPLETIONS, RESPONSES = "/chat/completions", "/completions", "/responses"

CONVERSATION = {CHAT: {"messages"}, COMPLETIONS: {"prompt"}, RESPONSES: {"input", "instructions"}}
"""The fields of each API that are read for the question, and are no params either."""

MAX_DEPTH = 100
"""Levels of nesting in a body; several recursive functions walk through it."""


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed request.

    Attributes:
        question: The question as it is recorded.
        raw: The request to the provider.
        with_usage: The client requests the usage in the last chunk of a stream.
    """

    question: Question
    raw: RawRequest
    with_usage: bool


def parse_request(path: str, data: bytes, app_state: AppState) -> ParsedRequest:
    """Parse a request that is recorded.

    Args:
        path: The path below `/v1`: `CHAT`, `COMPLETIONS` or `RESPONSES`.
        data: The body of the request.
        app_state: The default model and system prompt, and the history.

    Raises:
        InvalidRequest: The body is not a JSON object, or is nested too deeply.
    """
    body = original = parse_body(data)
    previous: QuestionAnswer | None = None
    earlier: list[Any] = []
    if path == RESPONSES:
        body = with_referenced_items(app_state.store, body)
        previous = previous_response(app_state.store, body)
    if previous is not None:
        earlier = [*request_items(app_state.store, previous), *answer_items(previous)]
    sent = with_model(body, app_state)
    messages = _messages(path, body)
    conversation = read_conversation([*earlier, *messages])
    system = conversation.system
    if previous is not None and previous.system and not system:
        # It may have been a message, which stays in a conversation.
        system = previous.system
        earlier = [{"role": "system", "content": system}, *earlier]
    elif app_state.system and not system and path != COMPLETIONS:
        system = app_state.system
        sent = _with_system(path, sent, system)
    params = {
        name: value
        for name, value in body.items()
        if name not in NOT_RECORDED | CONVERSATION[path] and value is not None
    }
    if path == COMPLETIONS and conversation.question == NO_TEXT:
        params["prompt"] = body.get("prompt")  # numbers of tokens
    params["model"] = sent["model"]
    recorded = [without_files(message) for message in messages]
    own = recorded[leading_system(recorded) :]
    follows_id: int | None
    new: Sequence[Any]
    if previous is not None:
        follows_id, new = previous.id, own
    else:
        follows_id, new = find_thread(app_state.store, own)
    if follows_id is None and conversation.earlier:
        follows_id = find_record_by_texts(app_state.store, conversation, recorded)
        new = own[-1:] if follows_id is not None and conversation.is_last else own
    is_result = previous is not None and any(map(is_tool_result, new))
    is_plain = conversation.is_last and has_only_text_and_files(recorded[-1])
    if len(new) > 1 or not is_plain or is_result:
        params["messages"] = recorded if follows_id is None else new
    digest = digests([*earlier[leading_system(earlier) :], *own])[-1:]
    question = Question(
        question=sanitize_text(conversation.question),
        system=sanitize_text(system) or None,
        params=clean_json(params),
        follows_id=follows_id,
        context_digest=digest[0] if digest else None,
        attachments=clean_json(conversation.attachments),
    )
    options = body.get("stream_options")
    return ParsedRequest(
        question,
        replace(
            raw_request(path, dump_body(sent, original, data), sent),
            history=b"" if previous is None else _with_items(sent, earlier),
            needs_history=previous is not None
            and (is_own_id(previous, body) or app_state.is_elsewhere(previous, str(sent["model"]))),
            kept_by="" if previous is None else kept_by(previous),
            uid=question.uid,
            created=int(question.created_at.timestamp()),
        ),
        with_usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def raw_request(
    path: str, data: bytes, body: Mapping[str, Any] | None = None, method: str = "POST"
) -> RawRequest:
    """Return the request to the provider, with the client's headers in `PASSED_HEADERS`."""
    model = body.get("model") if body else None
    return RawRequest(
        path=path,
        body=data,
        method=method,
        headers={name: request.headers[name] for name in PASSED_HEADERS if name in request.headers},
        query=request.query_string.decode("latin-1"),
        is_streamed=bool(body and body.get("stream")),
        model=model if isinstance(model, str) else "",
    )


def with_model(body: dict[str, Any], app_state: AppState) -> dict[str, Any]:
    """Return the body with the model to ask; the same object where the client has named it.

    Raises:
        InvalidRequest: The model is a local file; clients may not choose which files are opened.
    """
    name = body.get("model")
    model = app_state.model(name if isinstance(name, str) and name else None)
    # A model of another type is the provider's business.
    if name == model or (name is not None and not isinstance(name, str)):
        return body
    return {**body, "model": model}


def dump_body(sent: dict[str, Any], body: dict[str, Any], data: bytes) -> bytes:
    """Return the bytes to send: the client's own where nothing was changed."""
    return data if sent is body else json.dumps(sent, separators=(",", ":")).encode()


def parse_body(data: bytes) -> dict[str, Any]:
    """Parse the body strictly: no NaN or infinity, and whole numbers as int.

    Raises:
        InvalidRequest: The body is not a JSON object, or is nested too deeply.
    """

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text} is not a number")
        # 5.0 is a whole number in JSON, too.
        return int(value) if value.is_integer() and abs(value) <= MAX_ID else value

    too_deep = InvalidRequest("The body is nested too deeply.", f"Use at most {MAX_DEPTH} levels.")
    try:
        body = json.loads(data, parse_float=number, parse_constant=number)
    except RecursionError:
        raise too_deep from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", "Send an object.") from None
    if _is_deeper(body, MAX_DEPTH):
        raise too_deep
    if not isinstance(body, dict):
        raise InvalidRequest("The body is not a JSON object.", "Send an object.")
    return body


def clean_json(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON value whose texts both databases can store."""
    if isinstance(value, str):
        return sanitize_text(value)
    if isinstance(value, dict):
        return {sanitize_text(name): clean_json(item) for name, item in value.items()}
    return [clean_json(item) for item in value] if isinstance(value, list) else value


def _messages(path: str, body: Mapping[str, Any]) -> list[Any]:
    """Return the messages of a request in the forms that `read_conversation` reads."""
    if path == CHAT:
        messages = body.get("messages")
        return messages if isinstance(messages, list) else []
    if path == COMPLETIONS:
        prompt = body.get("prompt")
        texts = prompt if isinstance(prompt, list) else [prompt]
        text = "\n".join(text for text in texts if isinstance(text, str))
        return [{"role": "user", "content": text}]
    items = body.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    instructions = body.get("instructions")
    first = [{"role": "system", "content": instructions}] if isinstance(instructions, str) else []
    return [*first, *(items if isinstance(items, list) else [])]


def _with_items(body: dict[str, Any], earlier: Sequence[Any]) -> bytes:
    """Return the body with these items before its own ones, in place of the previous response."""
    items = body.get("input")
    if not isinstance(items, list):
        items = [{"role": "user", "content": items}] if isinstance(items, str) else []
    rest = {name: value for name, value in body.items() if name != "previous_response_id"}
    return json.dumps({**rest, "input": [*earlier, *items]}, separators=(",", ":")).encode()


def _with_system(path: str, body: dict[str, Any], system: str) -> dict[str, Any]:
    """Return the body with the system prompt of QA_SYSTEM."""
    if path == RESPONSES:
        return {**body, "instructions": system}
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    return {**body, "messages": [{"role": "system", "content": system}, *messages]}


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)
