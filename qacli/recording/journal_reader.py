"""Read a journal of the outbox: its questions, and a list of the damaged lines and values.

A journal may contain anything: a power cut leaves blocks of zeros, a disk flips bits, a newer
version of qa writes unknown fields. Each value is checked separately, so that a bad one does not
affect the others. Each problem is reported, so that a file is not deleted before all of it is read.
`qacli.recording.journal_format` describes the format.
"""

import codecs
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from math import isfinite
from typing import Any
from zlib import crc32

from qacli.domain import DeferredQuestion, Outcome, Question, Status
from qacli.errors import InvalidRequest
from qacli.record_fields import INT_FIELDS
from qacli.serializers import with_error_kind
from qacli.validation import MAX_ID, sanitize_text

MAX_UID_LENGTH = 32
YEARS = range(1970, 9999)
"""The years that both databases can store in every time zone."""

CHECKSUM = re.compile(rb', "crc": "([0-9a-f]{8})"\}')
CUT_TEXT = re.compile(
    r'\{"uid": "(?P<uid>[^"\\]{1,32})", "(?P<kind>text|reasoning)": "'
    r'(?P<text>(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)(?P<rest>.*)'
)
CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
CUT_CHECKSUM = re.compile(r'", "crc": "[0-9a-f]{0,8}"?')


@dataclass(slots=True)
class Entry:
    """One question in a journal, with its answer as far as it was written.

    Attributes:
        follows_uid: The uid of the question that it follows up, if that had no record yet.
        texts: The pieces of the answer.
        reasoning: The pieces of its reasoning.
        finished: The outcome; None if the process ended before it was written.
        damaged: A part of the answer may be in a line that cannot be read.
    """

    question: Question
    follows_uid: str | None = None
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finished: Outcome | None = None
    damaged: bool = False

    def outcome(self) -> Outcome:
        """Return the outcome; without one in the journal, the question was interrupted."""
        if self.finished is not None:
            return self.finished
        reason = "the process ended before the answer was complete"
        if self.damaged:
            reason = "the journal of this answer is damaged, some of it may be missing"
        outcome = Outcome(
            answer="".join(self.texts) or None, reasoning="".join(self.reasoning).strip() or None
        )
        outcome.interrupt(reason)
        return outcome


@dataclass(slots=True)
class JournalContents:
    """The contents of a journal, and the problems in it.

    Attributes:
        entries: The questions, in the order in which they were asked.
        problems: A text for each line or value that cannot be read; empty for an intact journal.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class UnreadableLineError(ValueError):
    """A line of a journal cannot be used."""


def parse_journal(data: bytes, asked_at: datetime) -> JournalContents:
    """Parse the bytes of a journal; damage is reported in the result and raises no error.

    Args:
        data: The whole file.
        asked_at: The time for a question whose own time cannot be read.
    """
    return _Parser(asked_at, has_checksums=CHECKSUM.search(data) is not None).parse(data)


class _Parser:
    def __init__(self, asked_at: datetime, *, has_checksums: bool) -> None:
        self._asked_at = asked_at
        self._has_checksums = has_checksums
        self._entries: dict[str, Entry] = {}
        self._completed: set[str] = set()
        self._problems: list[str] = []
        self._has_lost_lines = False
        self._number = 0

    def parse(self, data: bytes) -> JournalContents:
        for self._number, raw in enumerate(data.split(b"\n"), 1):
            # A power cut leaves zeros in a block that was not written yet; they are ignored.
            line = raw.lstrip(b"\0")
            if not line.strip():
                continue
            try:
                self._read_line(line)
            except UnreadableLineError as error:
                self._read_damaged_line(line, str(error))
            except (ValueError, RecursionError):
                self._read_damaged_line(line, "is not JSON")
        for entry in self._entries.values():
            entry.damaged |= self._has_lost_lines
            answer = entry.finished.answer if entry.finished else None
            # Without checksums, a line with a flipped bit can be valid. The last pieces of an
            # answer may be in its outcome only.
            if not self._has_checksums and answer and not answer.startswith("".join(entry.texts)):
                self._problems.append("the pieces of an answer differ from the whole answer")
        return JournalContents(list(self._entries.values()), self._problems)

    def _read_damaged_line(self, line: bytes, problem: str) -> None:
        if not self._read_cut_text(line):
            self._has_lost_lines = True
            self._report(problem)

    def _report(self, problem: str) -> None:
        self._problems.append(f"line {self._number} {problem}")

    def _read_line(self, raw: bytes) -> None:
        checksum = CHECKSUM.fullmatch(raw, max(len(raw) - len(', "crc": "12345678"}'), 0))
        if checksum is not None:
            raw = raw[: checksum.start()] + b"}"
            if int(checksum[1], 16) != crc32(raw):
                raise UnreadableLineError("does not fit its checksum")
        line = json.loads(raw.decode())
        # A journal of an older version of qa has no checksums at all.
        if checksum is None and self._has_checksums:
            raise UnreadableLineError("has no checksum")
        if not isinstance(line, dict):
            raise UnreadableLineError("is not an object")
        if "ask" in line:
            self._read_question(line)
        else:
            self._read_answer(line)

    def _read_question(self, line: dict[str, Any]) -> None:
        checks = {"ask": _object, "follows_uid": _uid, "accepted": _true}
        envelope = _valid_values(line, checks, self._report)
        fields = _valid_values(envelope.get("ask", {}), QUESTION_FIELDS, self._report)
        if "uid" not in fields or "question" not in fields:
            raise UnreadableLineError("has no question that can be stored")
        if "created_at" not in fields:
            self._report("has no time")
            fields["created_at"] = self._asked_at
        if fields.get("batch_id") is None or fields.get("item_key") is None:
            # A batch item is identified by both: with only one, the question belongs to no batch.
            fields |= {"batch_id": None, "item_key": None}
        if fields["question"] != line["ask"]["question"]:
            self._report("has characters in its question that no database can store")
        try:
            question = (DeferredQuestion if "accepted" in envelope else Question)(**fields)
        except InvalidRequest as error:
            self._report(f"has parameters that cannot be used: {error.what}")
            question = Question(**{**fields, "params": {}})
        earlier = self._entries.get(question.uid)
        if earlier is None:
            self._entries[question.uid] = Entry(question, envelope.get("follows_uid"))
        elif earlier.question != question:
            raise UnreadableLineError("is another question with the same uid")

    def _read_answer(self, line: dict[str, Any]) -> None:
        checks = {"text": _string, "reasoning": _string, "outcome": _object, "settled": _true}
        values = _valid_values(line, {"uid": _uid, **checks}, self._report)
        uid = values.get("uid")
        if uid in self._completed:
            raise UnreadableLineError("is about a question that was completed before")
        if uid not in self._entries:
            raise UnreadableLineError("is about a question that is not in the journal")
        if len(values.keys() & checks.keys()) != 1:
            raise UnreadableLineError("is of a kind that this version of qa cannot read")
        entry = self._entries[uid]
        if "settled" in values:
            del self._entries[uid]
            self._completed.add(uid)
        if "text" in values:
            entry.texts.append(sanitize_text(values["text"]))
        if "reasoning" in values:
            entry.reasoning.append(sanitize_text(values["reasoning"]))
        if "outcome" in values:
            self._finish(entry, values["outcome"])

    def _finish(self, entry: Entry, line: dict[str, Any]) -> None:
        fields = _valid_values(with_error_kind(line), OUTCOME_FIELDS, self._report)
        if "status" not in line:
            self._report("has no status")
        if "status" not in fields or (line.get("answer") is not None and "answer" not in fields):
            if fields.get("answer") is None:
                # Only the pieces of text in other lines are left of the answer.
                entry.damaged = True
                return
            fields["status"] = Status.ASKING
        outcome = Outcome(**fields)
        if outcome.status is Status.ASKING:
            outcome.interrupt("the journal of this answer is damaged")
        if entry.finished is not None and entry.finished != outcome:
            self._report("is a second outcome of the same question")
            return
        entry.finished = outcome

    def _read_cut_text(self, raw: bytes) -> bool:
        """Read the beginning of a piece of text or reasoning whose line was cut off in a write.

        Returns False if the line is not such a piece.
        """
        try:
            line = codecs.getincrementaldecoder("utf-8")().decode(raw)
        except UnicodeDecodeError:
            return False
        match = CUT_TEXT.fullmatch(line)
        if match is None:
            # Cut off before the text begins: no text is lost.
            return any(
                f'{{"uid": "{uid}", "{kind}": "'.startswith(line)
                for uid in self._entries
                for kind in ("text", "reasoning")
            )
        rest = match["rest"]
        is_cut = '", "crc": "'.startswith(rest) or CUT_ESCAPE.fullmatch(rest)
        if match["uid"] not in self._entries or not (is_cut or CUT_CHECKSUM.fullmatch(rest)):
            return False
        entry = self._entries[match["uid"]]
        pieces = entry.texts if match["kind"] == "text" else entry.reasoning
        pieces.append(sanitize_text(json.loads(f'"{match["text"]}"')))
        return True


def _valid_values(
    values: dict[str, Any],
    checks: Mapping[str, Callable[[Any], Any]],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Return the valid values of an object, and report each invalid one.

    Args:
        values: The object.
        checks: A function for each known name; it returns the converted value, or raises
            ValueError.
        report: Called with a text for each value that cannot be used.
    """
    valid: dict[str, Any] = {}
    for name, value in values.items():
        quoted = repr(sanitize_text(name[:40]))
        if name not in checks:
            report(f"has a field that this version of qa cannot read: {quoted}")
            continue
        try:
            valid[name] = checks[name](value)
        except (ValueError, OverflowError, RecursionError) as error:
            report(f"has a value that cannot be used: {quoted} {error}")
    return valid


def _true(value: object) -> bool:
    if value is not True:
        raise ValueError("is not true")
    return True


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a text")  # noqa: TRY004 - one kind of error for all values
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not an object")  # noqa: TRY004 - as above
    return value


def _clean(value: object) -> str:
    """Return a text that every database can store.

    Raises:
        ValueError: The text contains U+0000 or an unpaired surrogate.
    """
    if sanitize_text(text := _string(value)) != text:
        raise ValueError("has characters that no database can store")
    return text


def _question(value: object) -> str:
    if not (text := sanitize_text(_string(value))).strip():
        raise ValueError("is empty")
    return text


def _uid(value: object) -> str:
    if not 0 < len(_clean(value)) <= MAX_UID_LENGTH:
        raise ValueError("is not a uid")
    return str(value)


def _time(value: object) -> datetime:
    time = datetime.fromisoformat(_string(value))
    if time.tzinfo is None:
        raise ValueError("has no offset from UTC")
    if time.astimezone(UTC).year not in YEARS:
        raise ValueError("is out of range")
    return time


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        raise ValueError("is not a number that the database can store")
    return value


def _cost(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError("is not a number")
    return float(value)


def _status(value: object) -> Status:
    if (status := Status(_string(value))) is Status.ASKING:
        raise ValueError("is not the status of an outcome")
    return status


def _json(value: object) -> object:
    """Return a JSON value that both databases can store."""
    if isinstance(value, dict):
        return {_clean(name): _json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("has a number that is out of range")
    return _clean(value) if isinstance(value, str) else value


def _json_object(value: object) -> object:
    return _json(_object(value))


def _list_of(check: Callable[[object], object]) -> Callable[[object], list[object]]:
    def checked(value: object) -> list[object]:
        if not isinstance(value, list):
            raise ValueError("is not a list")  # noqa: TRY004 - as above
        return [check(item) for item in value]

    return checked


def _or_none(check: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else check(value)


def _text(value: object) -> str:
    return sanitize_text(_string(value))


QUESTION_FIELDS: dict[str, Callable[[object], object]] = {
    **{
        item.name: _or_none(_count if item.name in INT_FIELDS else _clean)
        for item in fields(Question)
    },
    "question": _question,
    "uid": _uid,
    "created_at": _time,
    "params": _json_object,
    "tags": _list_of(_clean),
    "attachments": _list_of(_json_object),
}
OUTCOME_FIELDS: dict[str, Callable[[object], object]] = {
    **{
        item.name: _or_none(_count if item.name in INT_FIELDS else _text)
        for item in fields(Outcome)
    },
    "status": _status,
    "answered_at": _or_none(_time),
    "cost_usd": _or_none(_cost),
    "details": _json_object,
}
