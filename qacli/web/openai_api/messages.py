"""Read the messages of a request for its record: the question, the system prompt, the files.

A message may have any form: the provider checks it. Both the messages of Chat
Completions and the items of Responses are read.
"""

import html
import json
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from qacli.message_digests import SYSTEM_ROLES, TEXT_PARTS, is_from_model
from qacli.provider.response import calls_of
from qacli.provider.tool_calls import call_of_item, format_call
from qacli.provider.tool_exchange import is_tool_result
from qacli.redaction import redact_url

NO_TEXT = "(no text)"
"""The question of a request without any text."""

MEDIA_PARTS = {
    **{f"{name}_url": (name, f"{name}_url") for name in ("image", "video", "audio")},
    **dict.fromkeys(("input_image", "computer_screenshot"), ("image", "image_url")),
    "input_video": ("video", "video_url"),
}
"""For the types of parts with a URL, or with data in its place: the kind, and the field."""

CALL_IDS = ("call_id", "tool_call_id", "approval_request_id", "id", "name")
"""The fields of results of tools that name their call; the last one is of the older API."""

PLAIN_FIELDS = {"role", "content", "type", "id", "status"}
"""The fields of a message that has nothing but its content."""

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of a request.

    Attributes:
        system: The texts of the system's and the developer's messages.
        question: The newest text of the user, or the results of tools that are newer.
        attachments: The files in the messages with the question: `name`, `size` and `sha256`.
        earlier: The messages before the question, without those of the system.
        is_last: No message comes after the question.
    """

    system: str = ""
    question: str = NO_TEXT
    attachments: list[dict[str, Any]] = field(default_factory=list)
    earlier: Sequence[Message] = ()
    is_last: bool = True


def read_conversation(items: Sequence[object]) -> Conversation:
    """Read the messages of a request, the oldest first; those that are no objects are left out."""
    messages = [item for item in items if isinstance(item, dict)]
    system = "\n\n".join(filter(None, map(text_of, filter(_is_system, messages))))
    rest = [message for message in messages if not _is_system(message)]
    start = _newest_start(rest)
    place = _newest_user_message(rest, start)
    if place is None and any(map(is_tool_result, rest[start:])):
        question = "\n".join(_format_results(rest, start)).strip() or NO_TEXT
        files = [file for item in rest[start:] for file in attachments_of(item)]
        return Conversation(system, question, files, rest[:start])
    if place is None:
        place = _newest_user_message(rest, 0)
    if place is None:
        texts = [text for text in map(text_of, rest) if text.strip()]
        question = texts[-1] if texts else system if system.strip() else NO_TEXT
        return Conversation(system, question, is_last=False)
    attachments = list(attachments_of(rest[place]))
    return Conversation(
        system,
        _text_or_files(rest[place]),
        attachments,
        rest[:place],
        is_last=rest[place] is messages[-1],
    )


def text_of(message: Message) -> str:
    """Return the text of a message; its parts are joined by line breaks."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = (
        part.get("refusal") if part.get("type") == "refusal" else part.get("text")
        for part in _parts(message)
        if part.get("type") in TEXT_PARTS or part.get("type") == "refusal"
    )
    return "\n".join(text for text in texts if isinstance(text, str))


def answer_of(messages: Sequence[Message]) -> str:
    """Return the model's messages as a record has its answer: the text, or the tool calls."""
    text = "".join(map(text_of, messages)).strip()
    return text or "\n".join(format_call(*call) for item in messages for call in _calls_in(item))


def attachments_of(message: Message) -> Iterator[dict[str, Any]]:
    """Yield the recorded facts about the files in a message."""
    number = 0
    for part in _parts(message):
        number += _is_file(part)
        if _is_file(part):
            yield _attachment(part, number)


def has_only_text_and_files(message: Message) -> bool:
    """Return whether a record has all of a message in its question and its attachments."""
    return message.keys() <= PLAIN_FIELDS and all(
        part.get("type") in TEXT_PARTS or _is_file(part) for part in _parts(message)
    )


def without_files(message: object) -> Any:  # noqa: ANN401 - any JSON
    """Return a message as it is recorded: each file with its bytes is replaced by a placeholder."""
    if not isinstance(message, dict):
        return message
    if message.get("type") == "image_generation_call":  # the model's, sent back by the client
        result = message.get("result")
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{result}"}
        return {**message, "result": _placeholder(image)} if result else message
    bodies = {name: message[name] for name in ("content", "output") if name in message}
    return {**message, **{name: _without_files_in(body) for name, body in bodies.items()}}


def _without_files_in(body: object) -> object:
    return [_without_file(part) for part in body] if isinstance(body, list) else _without_file(body)


def _is_system(message: Message) -> bool:
    return message.get("role") in SYSTEM_ROLES


def _newest_start(messages: Sequence[Message]) -> int:
    """Return the index after the last message of the model."""
    for index in range(len(messages) - 1, -1, -1):
        if is_from_model(messages[index]):
            return index + 1
    return 0


def _newest_user_message(messages: Sequence[Message], start: int) -> int | None:
    """Return the index of the newest message of the user with a text or a file."""
    for index in range(len(messages) - 1, start - 1, -1):
        message = messages[index]
        if message.get("role") == "user" and (
            text_of(message).strip() or any(map(_is_file, _parts(message)))
        ):
            return index
    return None


def _format_results(messages: Sequence[Message], start: int) -> Iterator[str]:
    """Yield `name(arguments) -> result` for each result of a tool after the start."""
    calls = {
        str(item.get("id")): call
        for message in messages[:start]
        for item in _call_items(message)
        for call in calls_of({"tool_calls": [item]})
    }
    for message in messages[start:]:
        if not is_tool_result(message):
            continue
        key = next((str(message[name]) for name in CALL_IDS if message.get(name)), "")
        name, arguments = calls.get(key, (str(message.get("name") or "tool"), ""))
        yield f"{format_call(name, arguments)} -> {_result_of(message)}"


def _result_of(message: Message) -> str:
    """Return the result of a tool as a text: its text or the names of its files, or its JSON."""
    result = message.get("output", message.get("content"))
    if isinstance(result, str):
        return result
    text = _text_or_files(message)
    if text or result == [] or any(part.get("type") in TEXT_PARTS for part in _parts(message)):
        return text
    if result is None:  # an approval, or a result that is nothing but a status
        fields = ("approve", "reason", "status")
        result = {name: message[name] for name in fields if message.get(name) is not None}
    return json.dumps(result or None, ensure_ascii=False)


def _text_or_files(message: Message) -> str:
    """Return the text of a message; if it has none, a line with the name of each file."""
    text = text_of(message)
    if text.strip():
        return text
    names = (json.dumps(file["name"]) for file in attachments_of(message))
    return "\n".join(f"<image name={name} />" for name in names)


def _call_items(message: Message) -> list[dict[str, Any]]:
    """Return the calls in a message; Chat Completions has a list, Responses an item for each."""
    if (call := call_of_item(message)) is not None:
        return [call]
    older = message.get("function_call")
    if isinstance(older, dict):  # its result has the name, and no id
        return [{"id": older.get("name"), "function": older}]
    calls = message.get("tool_calls")
    return [item for item in calls if isinstance(item, dict)] if isinstance(calls, list) else []


def _calls_in(message: Message) -> list[tuple[str, str]]:
    return calls_of({"tool_calls": _call_items(message)})


def _parts(message: Message) -> list[dict[str, Any]]:
    """Return the parts of a message, or of the result of a tool; a screenshot is the only one."""
    content = message.get("content", message.get("output"))
    parts = content if isinstance(content, list) else [content]
    return [part for part in parts if isinstance(part, dict)]


def _file_of(part: Message) -> tuple[str, str] | None:
    """Return the kind of a file in a part, and its URL, its Base64 or its id."""
    kind = part.get("type")
    if not isinstance(kind, str):
        return None
    if kind in MEDIA_PARTS:
        name, field = MEDIA_PARTS[kind]
        url = part.get(field)
        url = url.get("url") if isinstance(url, dict) else url or part.get("file_id")
        return (name, url) if isinstance(url, str) else None
    if kind in {"input_audio", "file", "input_file"}:
        inner = part.get("file" if kind == "file" else "input_audio", part)
        if isinstance(inner, dict):
            names = ("data", "file_data", "file_url", "file_id")
            data = next((inner[name] for name in names if isinstance(inner.get(name), str)), None)
            return ("audio" if kind == "input_audio" else "file", data) if data else None
    return None


def _is_file(part: Message) -> bool:
    return _file_of(part) is not None


def _attachment(part: Message, number: int) -> dict[str, Any]:
    """Return the facts about a file; only its URL or its id where the provider fetches it."""
    kind, data = _file_of(part) or ("file", "")
    inner = part.get("input_audio") or part.get("file") or part
    inner = inner if isinstance(inner, dict) else {}
    if data.startswith(("http://", "https://")):
        return {"name": redact_url(data), "size": None, "sha256": None}
    if inner.get("file_id") == data:
        return {"name": data, "size": None, "sha256": None}
    head, comma, encoded = data.partition(",")
    media = head.removeprefix("data:").partition(";")[0] if comma else ""
    suffix = str(inner.get("format") or media.rpartition("/")[2].partition("+")[0] or "bin")
    try:
        content = b64decode(encoded if comma else data)
    except ValueError:
        content = data.encode("utf-8", "replace")
    name = inner.get("filename")
    return {
        "name": name if isinstance(name, str) and name else f"{kind}-{number}.{suffix}",
        "size": len(content),
        "sha256": sha256(content).hexdigest(),
    }


def _without_file(part: object) -> object:
    if not isinstance(part, dict) or not _is_file(part):
        return part
    facts = _attachment(part, 1)
    return {"type": "text", "text": _placeholder(part)} if facts["sha256"] else part


def _placeholder(part: Message) -> str:
    facts = _attachment(part, 1)
    kind = (_file_of(part) or ("file", ""))[0]
    name = html.escape(f"{facts['sha256'][:12]}.{facts['name'].rpartition('.')[2]}")
    return f'<{kind} name="{name}" omitted />'
