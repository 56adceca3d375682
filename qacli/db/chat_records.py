"""Make records of the conversations of other programs: one for each question with its answer."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, cast

from qacli.db.importers import ForeignRecord, foreign_record
from qacli.errors import BrokenAnswer
from qacli.validation import parse_count

NO_TEXT = "(no text)"
"""The question of an exchange that has only attachments."""

MILLISECONDS_FROM = 1e11
"""A larger number is a time in milliseconds: in seconds it would be after the year 5000."""


@dataclass(slots=True, kw_only=True)
class Message:
    """A message of a conversation.

    Attributes:
        key: Its name, unique in the conversation, and the same in each export.
        parent: The message before it; None for the first one.
        role: `user`, `assistant` or `system`; empty for a step that only links two others.
        files: Attachments, each with `name`, `size` and `sha256`.
        rating: The judgement of the user, 1 (bad) to 5 (good).
    """

    key: str
    parent: str | None = None
    role: str
    text: str = ""
    time: datetime | None = None
    model: str | None = None
    reasoning: str = ""
    error: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    rating: int | None = None
    files: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Conversation:
    """A conversation with all its branches.

    Attributes:
        program: The program, which becomes the tag of its records.
        key: Its name, which is the same in each export.
        created_at: The time of messages that have none.
        messages: The messages, in any order.
        params: Parameters of the requests.
    """

    program: str
    key: str
    created_at: datetime
    messages: Sequence[Message]
    title: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A question and the messages after it, up to the next question.

    Attributes:
        messages: The messages so far.
        system: The system prompt.
        follows_uid: The record of the question before.
        earliest: No question is older than the one that it follows up.
    """

    messages: tuple[Message, ...] = ()
    system: str | None = None
    follows_uid: str | None = None
    earliest: datetime


def records_of(conversation: Conversation, omitted: Counter[str]) -> Iterator[ForeignRecord]:
    """Yield a record for each question with its answer; those of all branches.

    Args:
        conversation: The conversation.
        omitted: Counts the parts that cannot become a record, by their descriptions.
    """
    keys = {message.key for message in conversation.messages}
    below: dict[str | None, list[Message]] = {}
    for message in conversation.messages:
        parent = message.parent if message.parent in keys else None
        below.setdefault(parent, []).append(message)
    first = _Turn(earliest=conversation.created_at)
    waiting = [(message, first) for message in reversed(below.get(None, []))]
    seen: set[str] = set()
    visited = 0
    while waiting:
        message, turn = waiting.pop()
        visited += 1
        is_next = message.role == "user" and any(m.role == "assistant" for m in turn.messages)
        if is_next:
            if record := _record(conversation, turn, seen, omitted):
                yield record
            uid = _uid(conversation, turn)
            turn = replace(turn, messages=(), follows_uid=uid, earliest=_asked_at(turn))
        if message.role == "system":
            turn = replace(turn, system=message.text.strip() or turn.system)
        elif message.role:
            turn = replace(turn, messages=(*turn.messages, message))
        children = below.get(message.key, [])
        if (
            not children
            and turn.messages
            and (record := _record(conversation, turn, seen, omitted))
        ):
            yield record
        waiting += [(child, turn) for child in reversed(children)]
    if lost := len(conversation.messages) - visited:
        omitted["messages outside of any thread"] += lost


def _uid(conversation: Conversation, turn: _Turn) -> str:
    key = f"{conversation.program}:{conversation.key}:{turn.messages[-1].key}"
    return sha256(key.encode(errors="replace")).hexdigest()[:32]


def _asked_at(turn: _Turn) -> datetime:
    time = turn.messages[0].time
    return turn.earliest if time is None else max(time, turn.earliest)


def _record(
    conversation: Conversation, turn: _Turn, seen: set[str], omitted: Counter[str]
) -> ForeignRecord | None:
    """Return the record of a turn; None if it was returned before, or cannot be a record."""
    uid = _uid(conversation, turn)
    if uid in seen:
        return None
    seen.add(uid)
    questions = [message for message in turn.messages if message.role == "user"]
    answers = [message for message in turn.messages if message.role != "user"]
    if not questions:
        omitted["answers without a question"] += 1
        return None
    question = _joined(message.text for message in questions)
    answer = _joined(message.text for message in answers)
    error = _joined(message.error for message in answers)
    created_at = _asked_at(turn)
    ended = [message.time for message in answers if message.time and message.time >= created_at]
    last = answers[-1] if answers else None
    model = next((m.model for m in reversed(answers) if m.model), None)
    values = {
        "question": question or NO_TEXT,
        "answer": answer or None,
        "created_at": created_at,
        "status": "failed" if error else "answered" if answer else "interrupted",
        "error_kind": BrokenAnswer.kind if error else None,
        "error": " ".join(error.split()) or None,
        "answered_at": (ended[-1] if ended else created_at) if answer else None,
        "model": model,
        "params": {**conversation.params, **({"model": model} if model else {})},
        "finish_reason": last.finish_reason if last else None,
        "system": turn.system,
        "reasoning": _joined(message.reasoning for message in answers) or None,
        "prompt_tokens": last.prompt_tokens if last else None,
        "completion_tokens": last.completion_tokens if last else None,
        "rating": last.rating if last else None,
        "title": conversation.title if turn.follows_uid is None else None,
        "attachments": [file for message in questions for file in message.files],
        "tags": [conversation.program],
        "uid": uid,
        "follows_uid": turn.follows_uid,
    }
    record = foreign_record(values)
    if record is None:
        omitted["questions with values that cannot be stored"] += 1
    return record


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text.strip())


def sort_by_time(records: Iterable[ForeignRecord]) -> Iterator[ForeignRecord]:
    """Yield records, the oldest first, once all of them have been read without an error.

    They wait in a temporary database of SQLite (the name "" in `sqlite3.connect`), not in memory.
    """
    with closing(sqlite3.connect("")) as file:
        file.execute("CREATE TABLE record (time TEXT, number INTEGER PRIMARY KEY, text TEXT)")
        file.executemany(
            "INSERT INTO record (time, text) VALUES (?, ?)",
            (
                (
                    cast("datetime", dict(record)["created_at"])
                    .astimezone(UTC)
                    .isoformat(timespec="microseconds"),
                    record.model_dump_json(),
                )
                for record in records
            ),
        )
        for (text,) in file.execute("SELECT text FROM record ORDER BY time, number"):
            yield ForeignRecord.model_validate_json(text)


def link_in_order(messages: Iterable[Message]) -> list[Message]:
    """Return messages, each with the one before it as its parent."""
    row: list[Message] = []
    for message in messages:
        message.parent = row[-1].key if row else None
        row.append(message)
    return row


def conversation_without_times(
    program: str, name: str, messages: Iterable[Message], saved_at: datetime
) -> Conversation:
    """Return a conversation of a file that has no times and no names of messages.

    A message is named by its text, the role before it and how often that was there before, so that
    a later copy of the file, with more messages or without the oldest, has the same names. The
    times are a second apart and end when the file was saved.
    """
    counts: Counter[str] = Counter()
    row = list(messages)
    before = ""
    for number, message in enumerate(row):
        digest = sha256(f"{message.role}:{before}:{message.text}".encode(errors="replace"))
        key = digest.hexdigest()
        counts[key] += 1
        message.key = f"{key}:{counts[key]}"
        message.time = saved_at - timedelta(seconds=len(row) - number)
        before = message.text if message.role == "user" else ""
    created_at = saved_at - timedelta(seconds=len(row))
    return Conversation(
        program=program, key=name, created_at=created_at, messages=link_in_order(row)
    )


def parse_time(value: object) -> datetime | None:
    """Return a time from seconds or milliseconds since 1970, or from ISO 8601; else None."""
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            seconds = value / 1000 if value > MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def file_fields(name: object, size: object) -> dict[str, Any]:
    """Return an attachment as a record has it; its content is not in the export."""
    text = name if isinstance(name, str) and name else "attachment"
    return {"name": text, "size": parse_count(size), "sha256": None}
