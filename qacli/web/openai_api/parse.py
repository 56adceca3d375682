"""A Chat Completions request as a question with all that goes along, and as its record keeps it.

The provider is sent the messages as they came. The record keeps the last one of the user as its
question; what was said before it is the record that it follows up, where that is in the history,
and else stands in its params.
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
"""What is said to the provider otherwise, or can only have the value that it has unsaid."""

SYSTEM = {"system", "developer"}

MAX_DEPTH = 100
"""Levels of a body: what is kept of it is walked through again and again."""

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request that has been read.

    Attributes:
        ask: As the record keeps it.
        request: As the provider gets it.
        streamed: Whether the answer is wanted in chunks.
        with_usage: Whether the last of them is to hold the usage.
    """

    ask: Question
    request: ChatRequest
    streamed: bool
    with_usage: bool


def parse_chat_request(data: bytes, service: AppState) -> ParsedRequest:
    """Read a request.

    Args:
        data: Its body.
        service: What the server asks with, and the history.

    Raises:
        InvalidRequest: It cannot be asked.
        ValidationError: It is of the wrong shape.
    """
    raw = _json(data)
    body = ChatCompletionRequest.model_validate(raw)
    messages = [
        {name: value for name, value in message.items() if value is not None}
        for message in raw["messages"]
    ]
    last = _question_at(messages)
    system = "\n\n".join(_text(each) for each in messages if each["role"] in SYSTEM)
    if not system and service.system:
        system = service.system
        messages.insert(0, {"role": "system", "content": system})
        last += 1
    params = {
        name: value
        for name, value in raw.items()
        if name not in NOT_FORWARDED and value is not None
    }
    params["model"] = service.model(body.model)
    follows_id = None
    kept = strip_images(messages)
    earlier = [each for each in messages[:last] if each["role"] not in SYSTEM]
    if earlier:
        follows_id = previous_record(service.store, earlier, kept)
    attachments = list(_attachments(messages[last]))
    # An image alone is a question, too.
    shown = "\n".join(f"<image name={json.dumps(each['name'])} />" for each in attachments)
    ask = Question(
        question=_text(messages[last]) if _text(messages[last]).strip() else shown,
        system=system or None,
        params=params,
        follows_id=follows_id,
        attachments=attachments,
    )
    if (earlier and follows_id is None) or last < len(messages) - 1:
        ask = replace(ask, params={**params, "messages": kept})
    return ParsedRequest(
        ask,
        ChatRequest(question=replace(ask, params={**params, "messages": messages})),
        streamed=bool(body.stream),
        with_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def previous_record(
    store: Store, earlier: Sequence[Message], kept: Sequence[Message]
) -> int | None:
    """The record that a conversation goes on from, where all of it is in the history.

    Args:
        store: The history.
        earlier: What was said before the question, without what the system said.
        kept: All messages, as a record would keep them.
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
        # A thread that is shorter began in the middle: its first record says with what.
        before = thread[0].params.get("messages", [])
        if len(recorded) >= len(turns) or (before and before == list(kept[: len(before)])):
            return record_id
    return None


def strip_images(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as a record keeps them: of an image that it was there."""
    return [
        {**message, "content": [_kept(part) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else dict(message)
        for message in messages
    ]


def _kept(part: Message) -> dict[str, Any]:
    if part["type"] != "image_url" or not part["image_url"]["url"].startswith("data:"):
        return dict(part)
    stored = _attachment(part["image_url"]["url"], 1)
    name = html.escape(f"{stored['sha256'][:12]}.{stored['name'].rpartition('.')[2]}")
    return {"type": "text", "text": f'<image name="{name}" omitted />'}


def _attachments(message: Message) -> Iterator[dict[str, Any]]:
    for number, url in enumerate(_images(message), 1):
        yield _attachment(url, number)


def _images(message: Message) -> list[str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def _attachment(url: str, number: int) -> dict[str, Any]:
    """What a record keeps of an image; of one elsewhere, which the provider fetches, its name."""
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


def _question_at(messages: Sequence[Message]) -> int:
    """Where the question is: the last message of the user that says anything."""
    for number in range(len(messages) - 1, -1, -1):
        message = messages[number]
        if message["role"] == "user" and (_text(message).strip() or any(_images(message))):
            return number
    raise InvalidRequest(
        "There is no message of the user that says anything.",
        'Send {"role": "user", "content": "..."}.',
    )


def _text(message: Message) -> str:
    """A message's text, its parts in lines of their own."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _json(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """What the body says; of numbers only those that JSON has."""

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text} is no number")
        # 5.0 is a whole number in JSON, too.
        return int(value) if value.is_integer() and abs(value) <= MAX_ID else value

    too_deep = InvalidRequest("The body is nested too deeply.", "Make it flatter.")
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
