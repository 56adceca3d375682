"""Parse a Chat Completions request into a question to record and a request to the provider.

The provider gets the messages unchanged. The record's question is the last message of the user.
The messages before it become the record that it follows up, if the history has that
conversation; otherwise they are stored in the record's params.
"""

import html
import json
import math
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from qacli.db.records import Store
from qacli.domain import ChatRequest, Question
from qacli.errors import InvalidRequest
from qacli.redaction import redact_url
from qacli.validation import MAX_ID
from qacli.web.openai_api.schemas import ChatCompletionRequest
from qacli.web.state import AppState

NOT_FORWARDED = {
    *("messages", "model", "stream", "stream_options", "n"),
    *("tools", "tool_choice", "functions", "function_call"),
    *("audio", "modalities", "logprobs", "top_logprobs"),
}
"""Fields that are not forwarded: set elsewhere, or only accepted with their default value."""

SYSTEM = {"system", "developer"}

MAX_DEPTH = 100
"""Levels of nesting in a body; several recursive functions walk through it."""

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed request.

    Attributes:
        question: The question as it is recorded.
        request: The request to the provider.
        streamed: The client wants the answer in chunks.
        with_usage: The client wants the usage in the last chunk.
    """

    question: Question
    request: ChatRequest
    streamed: bool
    with_usage: bool


def parse_chat_request(data: bytes, app_state: AppState) -> ParsedRequest:
    """Parse a request.

    Args:
        data: The body of the request.
        app_state: The default model and system prompt, and the history.

    Raises:
        InvalidRequest: The body is not JSON, or has no question.
        ValidationError: A field is invalid.
    """
    raw = _parse_json(data)
    body = ChatCompletionRequest.model_validate(raw)
    messages = [
        {name: value for name, value in message.items() if value is not None}
        for message in raw["messages"]
    ]
    last = _question_index(messages)
    system = "\n\n".join(_text(message) for message in messages if message["role"] in SYSTEM)
    if not system and app_state.system:
        system = app_state.system
        messages.insert(0, {"role": "system", "content": system})
        last += 1
    params = {
        name: value
        for name, value in raw.items()
        if name not in NOT_FORWARDED and value is not None
    }
    params["model"] = app_state.model(body.model)
    follows_id = None
    recordable = strip_images(messages)
    earlier = [message for message in messages[:last] if message["role"] not in SYSTEM]
    if earlier:
        follows_id = previous_record(app_state.store, earlier, recordable)
    attachments = list(_attachments(messages[last]))
    # A message with an image and no text is a question, too.
    placeholders = "\n".join(f"<image name={json.dumps(item['name'])} />" for item in attachments)
    question = Question(
        question=_text(messages[last]) if _text(messages[last]).strip() else placeholders,
        system=system or None,
        params=params,
        follows_id=follows_id,
        attachments=attachments,
    )
    if (earlier and follows_id is None) or last < len(messages) - 1:
        question = replace(question, params={**params, "messages": recordable})
    return ParsedRequest(
        question,
        ChatRequest(question=replace(question, params={**params, "messages": messages})),
        streamed=bool(body.stream),
        with_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def previous_record(
    store: Store, earlier: Sequence[Message], recordable: Sequence[Message]
) -> int | None:
    """Return the id of the record that a conversation continues; None if it is not recorded.

    Args:
        store: The history.
        earlier: The messages before the question, without system messages.
        recordable: All messages in the form in which they are recorded.
    """
    roles = [message["role"] for message in earlier]
    if roles != ["user", "assistant"] * (len(earlier) // 2):
        return None
    turns = [
        (_text(question), _text(answer))
        for question, answer in zip(earlier[::2], earlier[1::2], strict=True)
    ]
    for record_id in store.find_by_text(*turns[-1]):
        thread = store.thread(record_id)
        recorded = [(record.question, record.answer or "") for record in thread]
        shared = min(len(recorded), len(turns))
        if recorded[-shared:] != turns[-shared:]:
            continue
        # A shorter thread began in the middle: the params of its first record have the start.
        before = thread[0].params.get("messages", [])
        if len(recorded) >= len(turns) or (before and before == list(recordable[: len(before)])):
            return record_id
    return None


def strip_images(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages for the record, with a placeholder for each `data:` image."""
    return [
        {**message, "content": [_strip_image(part) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else dict(message)
        for message in messages
    ]


def _strip_image(part: Message) -> dict[str, Any]:
    if part["type"] != "image_url" or not part["image_url"]["url"].startswith("data:"):
        return dict(part)
    image = _attachment(part["image_url"]["url"], 1)
    name = html.escape(f"{image['sha256'][:12]}.{image['name'].rpartition('.')[2]}")
    return {"type": "text", "text": f'<image name="{name}" omitted />'}


def _attachments(message: Message) -> Iterator[dict[str, Any]]:
    for number, url in enumerate(_images(message), 1):
        yield _attachment(url, number)


def _images(message: Message) -> list[str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def _attachment(url: str, number: int) -> dict[str, Any]:
    """Return the recorded facts about an image; only its URL if the provider fetches it."""
    if not url.startswith("data:"):
        return {"name": redact_url(url), "size": None, "sha256": None}
    head, _, data = url.partition(",")
    image = b64decode(data)
    kind = head.removeprefix("data:image/").partition(";")[0].partition("+")[0]
    return {
        "name": f"image-{number}.{kind}",
        "size": len(image),
        "sha256": sha256(image).hexdigest(),
    }


def _question_index(messages: Sequence[Message]) -> int:
    """Return the index of the question: the last message of the user that is not empty."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message["role"] == "user" and (_text(message).strip() or any(_images(message))):
            return index
    raise InvalidRequest(
        "There is no message of the user with a text or an image.",
        'Send {"role": "user", "content": "..."}.',
    )


def _text(message: Message) -> str:
    """Return the text of a message; its parts are joined by line breaks."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _parse_json(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parse the body strictly: no NaN or infinity, and whole numbers as int."""

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
    return body


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)
