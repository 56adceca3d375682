"""Read the files of aichat (messages.md, sessions/*.yaml), mods (`mods --show`) and crush.

The formats are those of the programs' sources: aichat 0.30, mods 1.8 and crush 0.20.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from importlib.util import find_spec
from typing import IO, Any

from qacli.db.chat_exports import ROLES
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
from qacli.db.sqlite_file import SqliteFile
from qacli.errors import InvalidRequest

AICHAT_HEADING = re.compile(r"# CHAT:.*\[(\d{4}-\d\d-\d\dT[^\]]+)\](?: \(.*\))?\s*$")
"""The first line of a question in aichat's messages.md, with its time."""

AICHAT_SESSION = re.compile(r"(?:#.*\n)*(?:---\n)?model: .*\n(?:[a-z_]+:.*\n|[ -].*\n)*")
AICHAT_LINE = "--------"
THINKING = re.compile(r"\s*<think>\n?(.*?)\n?</think>\s*", re.DOTALL)
MODS_MARK = re.compile(r"\*\*(System|User|Assistant)\*\*: ")
"""The beginning of a message in the output of `mods --show`."""

MAX_YAML_CHARACTERS = 50_000_000
CRUSH_TABLES = {"sessions", "messages"}


def aichat_messages(lines: Iterable[str], omitted: Counter[str]) -> Iterator[ForeignRecord]:
    """Yield the records of aichat's messages.md: questions that are not in a session."""
    time, body = "", list[str]()
    for line in lines:
        if heading := AICHAT_HEADING.match(line):
            yield from _aichat_exchange(time, body, omitted)
            time, body = heading[1], []
        else:
            body.append(line)
    yield from _aichat_exchange(time, body, omitted)


def _aichat_exchange(time: str, body: list[str], omitted: Counter[str]) -> Iterator[ForeignRecord]:
    """Yield the record between two headings: the question, a line, the answer, a line."""
    asked_at = parse_time(time)
    if asked_at is None:
        if "".join(body).strip():
            omitted["exchanges without a readable time"] += 1
        return
    question, _, rest = "".join(body).partition(f"\n{AICHAT_LINE}\n")
    answer = rest.rstrip().removesuffix(AICHAT_LINE).removesuffix("\n")
    text, reasoning = _without_thinking(answer)
    messages = [
        Message(key="question", role="user", text=question, time=asked_at),
        Message(key="answer", role="assistant", text=text, reasoning=reasoning),
    ]
    key = sha256(f"{time}:{question}".encode(errors="replace")).hexdigest()
    conversation = Conversation(
        program="aichat", key=key, created_at=asked_at, messages=link_in_order(messages)
    )
    yield from records_of(conversation, omitted)


def _without_thinking(answer: str) -> tuple[str, str]:
    """Return an answer without the reasoning at its beginning, and that reasoning."""
    thinking = THINKING.match(answer)
    return (answer[thinking.end() :], thinking[1]) if thinking else (answer, "")


def aichat_session(
    name: str, stream: IO[str], saved_at: datetime, omitted: Counter[str]
) -> Iterator[ForeignRecord]:
    """Yield the records of a session of aichat; needs the extra `aichat`.

    Raises:
        InvalidRequest: PyYAML is missing, or the file is not a session.
    """
    from qacli.installation import extra_command

    if find_spec("yaml") is None:
        raise InvalidRequest(
            "A session of aichat is YAML, and the package pyyaml is not installed.",
            f"Run: {extra_command('aichat')}",
        )
    import yaml

    try:
        text = stream.read(MAX_YAML_CHARACTERS + 1)
        if len(text) > MAX_YAML_CHARACTERS:
            raise InvalidRequest(f"{name} is too large for a session.", "Check the file.")
        session = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
        values = [*(session.get("compressed_messages") or []), *session["messages"]]
        messages = list(_session_messages(values, session.get("model"), omitted))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidRequest(f"{name} is not a session of aichat: {reason}.", "Check it.") from None
    conversation = conversation_without_times("aichat", name, messages, saved_at)
    conversation.params = {
        key: session[key] for key in ("temperature", "top_p") if session.get(key) is not None
    }
    yield from records_of(conversation, omitted)


def _session_messages(
    values: Iterable[dict[str, Any]], model: object, omitted: Counter[str]
) -> Iterator[Message]:
    for value in values:
        content = value["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        images = [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
        if value["role"] not in ROLES or not (texts or images):
            omitted["calls and results of tools"] += 1
            continue
        role = ROLES[value["role"]]
        text, reasoning = "\n".join(texts), ""
        if role == "assistant":
            text, reasoning = _without_thinking(text)
        names = [url if not url.startswith("data:") else "image" for url in images]
        yield Message(
            key="",
            role=role,
            text=text,
            reasoning=reasoning,
            model=model if isinstance(model, str) and role == "assistant" else None,
            files=[file_fields(url, None) for url in names],
        )


def mods_show(
    name: str, lines: Iterable[str], saved_at: datetime, omitted: Counter[str]
) -> Iterator[ForeignRecord]:
    """Yield the records of a conversation as `mods --show` prints it."""
    messages: list[Message] = []
    for line in lines:
        if mark := MODS_MARK.match(line):
            messages.append(Message(key="", role=mark[1].lower(), text=line[mark.end() :]))
        elif messages:
            messages[-1].text += line
    for message in messages:
        message.text = message.text.strip("\n")
    yield from records_of(conversation_without_times("mods", name, messages, saved_at), omitted)


def is_crush_database(file: SqliteFile) -> bool:
    """Return whether a SQLite database has the tables of crush."""
    if not file.tables >= CRUSH_TABLES:
        return False
    columns = {row["name"] for row in file.rows("PRAGMA table_info(messages)")}
    return {"session_id", "role", "parts", "created_at"} <= columns


def crush_sessions(file: SqliteFile, omitted: Counter[str]) -> Iterator[ForeignRecord]:
    """Yield the records of the database of crush, which replaces mods.

    Raises:
        InvalidRequest: A table is damaged; no record was returned.
    """
    file.check(*CRUSH_TABLES)
    for session in file.rows("SELECT * FROM sessions ORDER BY created_at, id"):
        query = "SELECT * FROM messages WHERE session_id = ? ORDER BY created_at, rowid"
        messages = [_crush_message(row, omitted) for row in file.rows(query, session["id"])]
        created_at = parse_time(session["created_at"])
        if created_at is None:
            omitted["conversations that cannot be read"] += 1
            continue
        conversation = Conversation(
            program="crush",
            key=session["id"],
            title=session["title"] or None,
            created_at=created_at,
            messages=link_in_order(messages),
        )
        yield from records_of(conversation, omitted)


def _crush_message(row: dict[str, Any], omitted: Counter[str]) -> Message:
    """Return a message of crush, whose parts are JSON: `[{"type": "text", "data": {...}}]`."""
    message = Message(
        key=row["id"],
        role=ROLES.get(row["role"], ""),
        time=parse_time(row["created_at"]),
        model=row.get("model") if row["role"] == "assistant" else None,
    )
    try:
        parts = [(part["type"], part["data"]) for part in json.loads(row["parts"])]
    except (ValueError, KeyError, TypeError):
        omitted["messages that cannot be read"] += 1
        return message
    for kind, data in parts:
        if kind == "text":
            message.text += data.get("text") or ""
        elif kind == "reasoning":
            message.reasoning += data.get("thinking") or ""
        elif kind == "finish":
            message.finish_reason = data.get("reason") or None
        elif kind in {"binary", "image_url"}:
            path = data.get("Path") or data.get("path") or data.get("url")
            message.files.append(file_fields(path, None))
        elif kind in {"tool_call", "tool_result"}:
            omitted["calls and results of tools"] += 1
    return message
