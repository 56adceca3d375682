"""The format of a journal: one JSON object on each line, with a checksum as its last field.

    {"ask": {"uid": "7f…", "question": "Who am I?", …}, "crc": "…"}
    {"uid": "7f…", "text": "You are ", "crc": "…"}
    {"uid": "7f…", "reasoning": "Hm.", "crc": "…"}
    {"uid": "7f…", "outcome": {"status": "answered", …}, "crc": "…"}
    {"uid": "7f…", "settled": true, "crc": "…"}

`qacli.recording.journal_reader` reads these lines.
"""

import json
from datetime import datetime
from typing import Any
from zlib import crc32

from qacli.domain import DeferredQuestion, Delta, Outcome, Question, ReasoningDelta
from qacli.serializers import field_values


def question_entry(question: Question, follows_uid: str | None = None) -> dict[str, Any]:
    """Return the line of a question; for `follows_uid` see `Entry`."""
    line: dict[str, Any] = {"ask": field_values(question)}
    if follows_uid is not None:
        line["follows_uid"] = follows_uid
    return {**line, "accepted": True} if isinstance(question, DeferredQuestion) else line


def text_entry(uid: str, event: Delta | ReasoningDelta) -> dict[str, Any]:
    """Return the line of a piece of an answer, or of its reasoning."""
    return {"uid": uid, "text" if isinstance(event, Delta) else "reasoning": event.text}


def outcome_entry(uid: str, outcome: Outcome) -> dict[str, Any]:
    """Return the line of a question's outcome."""
    return {"uid": uid, "outcome": field_values(outcome)}


def completed_entry(uid: str) -> dict[str, Any]:
    """Return the line that marks a question as delivered, in a journal with other questions."""
    return {"uid": uid, "settled": True}


def encode_line(entry: dict[str, Any]) -> str:
    """Return an entry as a line of a journal, with its checksum and its line end."""
    return with_checksum(json.dumps(entry, ensure_ascii=False, default=_encode_value)) + "\n"


def with_checksum(line: str) -> str:
    """Return a line of a journal, a JSON object, with a checksum as its last field."""
    return f'{line[:-1]}, "crc": "{crc32(line.encode()):08x}"}}'


def _encode_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a journal cannot store a value of the type {type(value).__name__}")
