"""Read a journal of the outbox: every entry that is whole, and a list of what is damaged.

A journal may hold anything: a power cut leaves blocks of zeros, a disk flips bits, a newer version
of qa writes fields that this one does not know. Each value is checked here, so that a bad one costs
only itself, and each problem is reported, so that a file is never deleted while it holds something
unread. `qacli.recording.outbox` has the format.
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
from qacli.serializers import INT_FIELDS, with_error_kind
from qacli.validation import MAX_ID, sanitize_text

LONGEST_UID = 32
YEARS = range(1970, 9999)
"""The years that both databases can hold in every time zone."""

CHECKSUM = re.compile(rb', "crc": "([0-9a-f]{8})"\}')
CUT_TEXT = re.compile(
    r'\{"uid": "(?P<uid>[^"\\]{1,32})", "text": "'
    r'(?P<text>(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)(?P<rest>.*)'
)
CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
CUT_CHECKSUM = re.compile(r'", "crc": "[0-9a-f]{0,8}"?')


@dataclass(slots=True)
class Entry:
    """One question in a journal, as far as it got.

    Attributes:
        follows_uid: The question that it follows up, where that had no record yet.
        damaged: Whether a part of the answer may be in a line that cannot be read.
    """

    ask: Question
    follows_uid: str | None = None
    texts: list[str] = field(default_factory=list)
    finished: Outcome | None = None
    damaged: bool = False

    def outcome(self) -> Outcome:
        """Return the outcome; without a recorded one its process ended in the middle."""
        if self.finished is not None:
            return self.finished
        reason = "the process ended before the answer was complete"
        if self.damaged:
            reason = "the journal of this answer is damaged, some of it may be missing"
        outcome = Outcome(answer="".join(self.texts) or None)
        outcome.interrupt(reason)
        return outcome


@dataclass(slots=True)
class JournalContents:
    """All that could be read in a journal, and what could not.

    Attributes:
        entries: The questions, in the order in which they were asked.
        problems: One text for each line or value that cannot be read; empty for a whole journal.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Unreadable(ValueError):
    """A line that holds nothing that can be delivered."""


def with_checksum(line: str) -> str:
    """Return a line of a journal, a JSON object, with a checksum as its last field."""
    return f'{line[:-1]}, "crc": "{crc32(line.encode()):08x}"}}'


def parse_journal(data: bytes, asked_at: datetime) -> JournalContents:
    """Parse the bytes of a journal; raises nothing, whatever they are.

    Args:
        data: The whole file.
        asked_at: The time of a question whose own cannot be read.
    """
    return _Parser(asked_at, has_checksums=CHECKSUM.search(data) is not None).parse(data)


class _Parser:
    def __init__(self, asked_at: datetime, *, has_checksums: bool) -> None:
        self._asked_at = asked_at
        self._has_checksums = has_checksums
        self._entries: dict[str, Entry] = {}
        self._settled: set[str] = set()
        self._problems: list[str] = []
        self._has_lost_lines = False
        self._number = 0

    def parse(self, data: bytes) -> JournalContents:
        for self._number, raw in enumerate(data.split(b"\n"), 1):
            # A power cut leaves zeros where a block was not written yet: there is nothing to read.
            line = raw.lstrip(b"\0")
            if not line.strip():
                continue
            try:
                self._take_line(line)
            except (ValueError, RecursionError) as error:
                if not self._take_cut_text(line):
                    self._has_lost_lines = True
                    self._report(str(error) if isinstance(error, Unreadable) else "is not JSON")
        for entry in self._entries.values():
            entry.damaged |= self._has_lost_lines
            answer = entry.finished.answer if entry.finished else None
            # A flipped bit in a journal without checksums can leave a line that is valid. The last
            # pieces of an answer may be in its outcome only.
            if not self._has_checksums and answer and not answer.startswith("".join(entry.texts)):
                self._problems.append("the pieces of an answer differ from the whole answer")
        return JournalContents(list(self._entries.values()), self._problems)

    def _report(self, problem: str) -> None:
        self._problems.append(f"line {self._number} {problem}")

    def _take_line(self, raw: bytes) -> None:
        checksum = CHECKSUM.fullmatch(raw, max(len(raw) - len(', "crc": "12345678"}'), 0))
        if checksum is not None:
            raw = raw[: checksum.start()] + b"}"
            if int(checksum[1], 16) != crc32(raw):
                raise Unreadable("does not fit its checksum")
        line = json.loads(raw.decode())
        # A journal of an older version of qa has no checksums at all.
        if checksum is None and self._has_checksums:
            raise Unreadable("has no checksum")
        if not isinstance(line, dict):
            raise Unreadable("is not an object")
        if "ask" in line:
            self._take_ask(line)
        else:
            self._take_answer(line)

    def _take_ask(self, line: dict[str, Any]) -> None:
        around = _valid(
            line, {"ask": _object, "follows_uid": _uid, "accepted": _true}, self._report
        )
        if "ask" not in around:
            raise Unreadable("has no question that can be kept")
        made = _valid(around["ask"], ASK_FIELDS, self._report)
        if "uid" not in made or "question" not in made:
            raise Unreadable("has no question that can be kept")
        if "created_at" not in made:
            self._report("has no time")
            made["created_at"] = self._asked_at
        if made.get("batch_id") is None or made.get("item_key") is None:
            # Half a name of an item names none: the record is kept on its own.
            made |= {"batch_id": None, "item_key": None}
        if made["question"] != line["ask"]["question"]:
            self._report("has characters in its question that no database can hold")
        try:
            ask = (DeferredQuestion if "accepted" in around else Question)(**made)
        except InvalidRequest as error:
            self._report(f"has parameters that cannot be used: {error.what}")
            ask = Question(**{**made, "params": {}})
        known = self._entries.get(ask.uid)
        if known is None:
            self._entries[ask.uid] = Entry(ask, around.get("follows_uid"))
        elif known.ask != ask:
            raise Unreadable("is another question of the same uid")

    def _take_answer(self, line: dict[str, Any]) -> None:
        kinds = {"text": _string, "outcome": _object, "settled": _true}
        values = _valid(line, {"uid": _uid, **kinds}, self._report)
        uid = values.get("uid")
        if uid in self._settled:
            raise Unreadable("is about a question that was settled before")
        if uid not in self._entries:
            raise Unreadable("is about a question that is not in the journal")
        if len(values.keys() & kinds.keys()) != 1:
            raise Unreadable("is of no kind that this version of qa knows")
        entry = self._entries[uid]
        if "settled" in values:
            del self._entries[uid]
            self._settled.add(uid)
        if "text" in values:
            entry.texts.append(sanitize_text(values["text"]))
        if "outcome" in values:
            self._finish(entry, values["outcome"])

    def _finish(self, entry: Entry, line: dict[str, Any]) -> None:
        made = _valid(with_error_kind(line), OUTCOME_FIELDS, self._report)
        if "status" not in line:
            self._report("has no status")
        if "status" not in made or (line.get("answer") is not None and "answer" not in made):
            if made.get("answer") is None:
                # The pieces of text, before and after this line, are all that there is.
                entry.damaged = True
                return
            made["status"] = Status.ASKING
        outcome = Outcome(**made)
        if outcome.status is Status.ASKING:
            outcome.interrupt("the journal of this answer is damaged")
        if entry.finished is not None and entry.finished != outcome:
            self._report("is a second outcome of the same question")
            return
        entry.finished = outcome

    def _take_cut_text(self, raw: bytes) -> bool:
        """Take a piece of text whose line was cut off in a write, as far as it goes."""
        try:
            line = codecs.getincrementaldecoder("utf-8")().decode(raw)
        except UnicodeDecodeError:
            return False
        cut = CUT_TEXT.fullmatch(line)
        if cut is None:
            # Cut off before the text begins: there is nothing in it.
            return any(f'{{"uid": "{uid}", "text": "'.startswith(line) for uid in self._entries)
        rest = cut["rest"]
        is_cut = '", "crc": "'.startswith(rest) or CUT_ESCAPE.fullmatch(rest)
        if cut["uid"] not in self._entries or not (is_cut or CUT_CHECKSUM.fullmatch(rest)):
            return False
        self._entries[cut["uid"]].texts.append(sanitize_text(json.loads(f'"{cut["text"]}"')))
        return True


def _valid(
    given: dict[str, Any],
    checks: Mapping[str, Callable[[Any], Any]],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Return the values of an object that can be used, and report each other one.

    Args:
        given: The object.
        checks: For each known name, what returns the value as it is used, or raises ValueError.
        report: Called with a text for each value that cannot be used.
    """
    valid: dict[str, Any] = {}
    for name, value in given.items():
        shown = repr(sanitize_text(name[:40]))
        if name not in checks:
            report(f"has a field that this version of qa does not know: {shown}")
            continue
        try:
            valid[name] = checks[name](value)
        except (ValueError, OverflowError, RecursionError) as error:
            report(f"has a value that cannot be used: {shown} {error}")
    return valid


def _true(value: object) -> bool:
    if value is not True:
        raise ValueError("is not true")
    return True


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004 - one kind of error for all values
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is no object")  # noqa: TRY004 - as above
    return value


def _clean(value: object) -> str:
    """Return a text that every database can hold; what the text of a question always was."""
    if sanitize_text(text := _string(value)) != text:
        raise ValueError("has characters that no database can hold")
    return text


def _question(value: object) -> str:
    if not (text := sanitize_text(_string(value))).strip():
        raise ValueError("is empty")
    return text


def _uid(value: object) -> str:
    if not 0 < len(_clean(value)) <= LONGEST_UID:
        raise ValueError("is no uid")
    return str(value)


def _time(value: object) -> datetime:
    moment = datetime.fromisoformat(_string(value))
    if moment.tzinfo is None:
        raise ValueError("has no offset from UTC")
    if moment.astimezone(UTC).year not in YEARS:
        raise ValueError("is out of range")
    return moment


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        raise ValueError("is no number that the database can hold")
    return value


def _cost(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError("is no number")
    return float(value)


def _status(value: object) -> Status:
    if (status := Status(_string(value))) is Status.ASKING:
        raise ValueError("is not the status of an outcome")
    return status


def _json(value: object) -> object:
    """Return a JSON value that both databases can hold."""
    if isinstance(value, dict):
        return {_clean(name): _json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_json(each) for each in value]
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("has a number that is out of range")
    return _clean(value) if isinstance(value, str) else value


def _json_object(value: object) -> object:
    return _json(_object(value))


def _list_of(check: Callable[[object], object]) -> Callable[[object], list[object]]:
    def checked(value: object) -> list[object]:
        if not isinstance(value, list):
            raise ValueError("is no list")  # noqa: TRY004 - as above
        return [check(each) for each in value]

    return checked


def _or_none(check: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else check(value)


def _text(value: object) -> str:
    return sanitize_text(_string(value))


ASK_FIELDS: dict[str, Callable[[object], object]] = {
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
