"""Read the JSON exports of ChatGPT, Claude, Open WebUI and shell-gpt.

The formats are not specified: they were seen in exports and in the sources of the programs.
A conversation that does not have the expected shape is left out and counted.
"""

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from qacli.db.chat_records import (
    Conversation,
    Message,
    conversation_without_times,
    file_fields,
    link_in_order,
    parse_time,
    records_of,
)
from qacli.db.importers import ForeignRecord
from qacli.validation import parse_count

ROLES = {"user": "user", "human": "user", "assistant": "assistant", "system": "system"}
RATINGS = {1: 5, -1: 1}
"""A rating of qa for thumbs up and down."""

REASONING = re.compile(
    r'<details type="reasoning"[^>]*>\s*(?:<summary>.*?</summary>)?(.*?)</details>\s*', re.DOTALL
)
"""The reasoning in an answer of Open WebUI, each of its lines a quotation with HTML's escapes."""


def read_conversations(
    read: Callable[[dict[str, Any], Counter[str]], Conversation],
    objects: Iterable[Any],
    omitted: Counter[str],
) -> Iterator[ForeignRecord]:
    """Yield the records of the conversations of an export.

    Args:
        read: The function that reads a conversation of this program.
        objects: The conversations as JSON.
        omitted: Counts the parts that are left out, by their descriptions.
    """
    for value in objects:
        try:
            conversation = read(value, omitted)
        except (KeyError, TypeError, ValueError, AttributeError):
            omitted["conversations that cannot be read"] += 1
            continue
        yield from records_of(conversation, omitted)


def chatgpt(value: dict[str, Any], omitted: Counter[str]) -> Conversation:
    """Read a conversation of ChatGPT: a tree of messages under `mapping`."""
    messages = []
    for key, node in value["mapping"].items():
        body = node.get("message") or {}
        message = Message(key=key, parent=node.get("parent"), role="")
        messages.append(message)
        role = (body.get("author") or {}).get("role")
        data = body.get("metadata") or {}
        content = body.get("content") or {}
        if role not in ROLES or data.get("is_visually_hidden_from_conversation"):
            if role == "tool":
                omitted["results of tools"] += 1
            continue
        if body.get("recipient", "all") != "all":
            omitted["calls of tools"] += 1
            continue
        message.role = ROLES[role]
        message.time = parse_time(body.get("create_time"))
        message.model = _text(data.get("model_slug")) if role == "assistant" else None
        message.finish_reason = _text((data.get("finish_details") or {}).get("type"))
        _add_content(message, content)
    return Conversation(
        program="chatgpt",
        key=str(value.get("conversation_id") or value["id"]),
        created_at=_time_of(messages, value.get("create_time")),
        title=_text(value.get("title")),
        messages=messages,
    )


def _add_content(message: Message, content: dict[str, Any]) -> None:
    """Add the content of a message of ChatGPT, by its `content_type`."""
    kind = content.get("content_type")
    if kind == "thoughts":
        thoughts = [item for item in content.get("thoughts") or [] if isinstance(item, dict)]
        parts = [_text(item.get(name)) for item in thoughts for name in ("summary", "content")]
        message.reasoning = "\n\n".join(filter(None, parts))
        return
    if kind in {"reasoning_recap", "user_editable_context", "model_editable_context"}:
        return
    texts = [content["text"]] if isinstance(content.get("text"), str) else []
    for part in content.get("parts") or []:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict) and part.get("asset_pointer"):
            message.files.append(file_fields(part["asset_pointer"], part.get("size_bytes")))
    message.text = "\n".join(text for text in texts if text)
    if kind == "code" and message.text:
        message.text = f"```{content.get('language') or ''}\n{message.text}\n```"


def claude(value: dict[str, Any], omitted: Counter[str]) -> Conversation:
    """Read a conversation of a Claude export.

    It is a list of messages; in newer exports each message names its parent.
    """
    messages = []
    for item in value["chat_messages"]:
        blocks = [block for block in item.get("content") or [] if isinstance(block, dict)]
        texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
        thoughts = [_text(block.get("thinking")) for block in blocks]
        tools = sum(block.get("type") in {"tool_use", "tool_result"} for block in blocks)
        if tools:
            omitted["calls and results of tools"] += tools
        message = Message(
            key=item["uuid"],
            parent=item.get("parent_message_uuid"),
            role=ROLES.get(item["sender"], ""),
            text="\n\n".join(texts) or item.get("text") or "",
            reasoning="\n\n".join(filter(None, thoughts)),
            time=parse_time(item.get("created_at")),
            finish_reason=_text(item.get("stop_reason")),
        )
        for file in [*(item.get("attachments") or []), *(item.get("files") or [])]:
            message.files.append(file_fields(file.get("file_name"), file.get("file_size")))
            if content := _text(file.get("extracted_content")):
                # Claude makes a file of a long text that is pasted: it is part of the question.
                message.text = f"{message.text}\n\n{content}".lstrip("\n")
        messages.append(message)
    keys = {message.key for message in messages}
    if not any(message.parent in keys for message in messages):
        link_in_order(messages)
    model = _text(value.get("model"))
    for message in messages:
        message.model = model if message.role == "assistant" else None
    return Conversation(
        program="claude",
        key=value["uuid"],
        created_at=_time_of(messages, value.get("created_at")),
        title=_text(value.get("name")),
        messages=messages,
    )


def openwebui(value: dict[str, Any], _omitted: Counter[str]) -> Conversation:
    """Read a chat of Open WebUI: a tree of messages under `history`; older ones have a list."""
    chat = value["chat"]
    tree = (chat.get("history") or {}).get("messages")
    items = [{"id": key, **item} for key, item in tree.items()] if tree else chat["messages"]
    messages = []
    for number, item in enumerate(items):
        text = _webui_text(item.get("content"))
        usage = item.get("usage") or item.get("info") or {}
        error = item.get("error")
        rating = (item.get("annotation") or {}).get("rating")
        message = Message(
            key=str(item.get("id") or number),
            parent=item.get("parentId"),
            role=ROLES.get(item["role"], ""),
            time=parse_time(item.get("timestamp")),
            model=_text(item.get("model")) if item["role"] == "assistant" else None,
            text=REASONING.sub("", text),
            reasoning="\n\n".join(map(_unquoted, REASONING.findall(text))),
            error=_text(error.get("content") if isinstance(error, dict) else error) or "",
            prompt_tokens=parse_count(usage.get("prompt_tokens")),
            completion_tokens=parse_count(usage.get("completion_tokens")),
            rating=RATINGS.get(rating) if isinstance(rating, int) else None,
            files=[
                file_fields(file.get("name") or file.get("type"), file.get("size"))
                for file in item.get("files") or []
                if isinstance(file, dict)
            ],
        )
        messages.append(message)
    if not tree and not any(message.parent for message in messages):
        link_in_order(messages)
    params = chat.get("params") or {}
    if system := _text(params.get("system") or chat.get("system")):
        _put_first(messages, Message(key="system", role="system", text=system))
    return Conversation(
        program="openwebui",
        key=str(value.get("id") or chat.get("id") or chat.get("timestamp")),
        created_at=_time_of(messages, value.get("created_at"), chat.get("timestamp")),
        title=_text(value.get("title") or chat.get("title")),
        messages=messages,
    )


def _put_first(messages: list[Message], first: Message) -> None:
    """Make a message the parent of those that have none."""
    keys = {message.key for message in messages}
    for message in messages:
        if message.parent not in keys:
            message.parent = first.key
    messages.append(first)


def _webui_text(content: object) -> str:
    """Return the text of a message: a text, or a list of parts as in Chat Completions."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _unquoted(text: str) -> str:
    return re.sub(r"^> ?", "", html.unescape(text).strip(), flags=re.MULTILINE)


def shell_gpt(
    name: str, values: Iterable[Any], saved_at: datetime, omitted: Counter[str]
) -> Iterator[ForeignRecord]:
    """Yield the records of a chat of shell-gpt: a list of messages of Chat Completions.

    Args:
        name: The name of the chat, which is the name of its file.
        values: The messages.
        saved_at: The time at which the file was saved.
        omitted: Counts the parts that are left out, by their descriptions.
    """
    messages = []
    for value in values:
        if value.get("role") not in ROLES:
            omitted["results of tools"] += 1
        elif isinstance(value.get("content"), str):
            messages.append(Message(key="", role=ROLES[value["role"]], text=value["content"]))
        else:
            omitted["calls of tools"] += 1
    yield from records_of(conversation_without_times("sgpt", name, messages, saved_at), omitted)


def _time_of(messages: Iterable[Message], *values: object) -> datetime:
    """Return the time of a conversation: one of these values, or that of its first message.

    Raises:
        ValueError: There is none.
    """
    for time in map(parse_time, values):
        if time is not None:
            return time
    return min(message.time for message in messages if message.time is not None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
