"""One question on its way, and what became of it: plain data that costs nothing to import.

A request must not wait until the database layer is loaded, so what the outbox writes down and
the provider fills in is not the table's class. Together with the id, the fields of `Ask` and
`Outcome` are the columns of `question_answer`; a test holds them to that.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import Any
from uuid import uuid4

from qacli.errors import Interrupted, InvalidRequest, QaError

MAX_ID = 2**63 - 1
"""The largest id that either database can hold."""

TAG = r"^[^\s\x00-\x1f\x7f-\x9f\ufeff]"
"""What a tag begins with: something that can be seen, so it is not blank.

What `\\s` leaves out in one of Python, Rust and JavaScript is named: the rule is the same in each.
"""

WITH_EXPONENT = 1e16
"""From here on Python writes a number with an exponent."""


class Status(StrEnum):
    """What became of a question."""

    ASKING = "asking"
    ANSWERED = "answered"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class ItemState(StrEnum):
    """How far an item of a batch is."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    ANSWERED = "answered"
    FAILED = "failed"


def now() -> datetime:
    """The clock: the current time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question, and all that shapes its answer.

    Attributes:
        question: What is asked, byte for byte.
        system: The system prompt.
        params: The model asked for, temperature, token limit and whatever else goes to the
            provider beside the messages.
        follows_id: The record that this one follows up.
        attachments: What was put before the question: `name`, `size` in bytes and `sha256` each.
        caller: The name of the token that asked over HTTP; None at the terminal.
        request_id: The HTTP request that it came in, as the log names it.
        uid: Names the question before the database has given it an id; unique for good.

    Raises:
        InvalidRequest: The question is empty, or a field cannot be stored or sent.
    """

    question: str
    system: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    follows_id: int | None = None
    batch_id: int | None = None
    item_key: str | None = None
    idempotency_key: str | None = None
    tags: list[str] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    caller: str | None = None
    request_id: str | None = None
    uid: str = field(default_factory=lambda: uuid4().hex)
    created_at: datetime = field(default_factory=now)

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise InvalidRequest("The question is empty.", 'Ask something: qa ask "Who am I?"')
        for name in ("question", "system", "item_key", "idempotency_key"):
            refuse_unstorable(getattr(self, name), f"the {name.replace('_', ' ')}")
        for name, value in self.params.items():
            refuse_unstorable([name, value], f"the {name.replace('_', ' ')}")
        refuse_unstorable(self.tags, "a tag")
        refuse_unstorable(self.attachments, "an attachment's name")
        temperature = self.params.get("temperature")
        if temperature is not None and not _is_number(temperature, 0, 2):
            raise InvalidRequest(
                f"The temperature {temperature} is out of range.", "Give a number from 0 to 2."
            )
        max_tokens = self.params.get("max_tokens")
        if max_tokens is not None and not _is_number(max_tokens, 1, MAX_ID):
            raise InvalidRequest(
                f"The token limit {max_tokens} is out of range.", "Give a whole number above 0."
            )

    @property
    def model(self) -> str:
        """The model asked for; the one that answers may be named otherwise."""
        return str(self.params.get("model", ""))

    @property
    def fingerprint(self) -> int:
        """What finds the very same question again; see `canonical`."""
        return fingerprint(self.canonical())

    def canonical(self) -> str:
        """The question and all that shapes its answer; see the function of that name."""
        return canonical(self.question, self.system, self.params, self.attachments, self.follows_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Ask):
    """A question whose asker was told that it will be answered, and does not wait for it.

    Where its process ends before there is an answer, the next server asks it again.
    """


def compose(  # noqa: PLR0913 - what a face has read, by name
    question: str,
    *,
    model: str,
    system: str | None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    response_format: dict[str, Any] | None = None,
    tags: Sequence[str] = (),
    follows_id: int | None = None,
    attachments: Sequence[dict[str, Any]] = (),
) -> Ask:
    """The question from what a face has read; None is what nobody said.

    Raises:
        InvalidRequest: See `Ask` and `refuse_unfit_tag`.
    """
    for tag in tags:
        refuse_unfit_tag(tag)
    params = {
        "model": model,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "response_format": response_format,
    }
    return Ask(
        question=question,
        system=system or None,
        params={name: value for name, value in params.items() if value is not None},
        tags=list(tags),
        follows_id=follows_id,
        attachments=list(attachments),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What is put before a question and is no part of it: a file's text, or an image.

    Attributes:
        text: A file with its name marked, or the name of the image.
        image_url: The image, as a `data:` URL.
    """

    text: str
    image_url: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer that a follow-up goes on from, and what stood before it."""

    question: str
    answer: str
    parts: Sequence[Part] = ()


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a question, as far as is known."""

    status: Status = Status.ASKING
    answer: str | None = None
    error: str | None = None
    answered_at: datetime | None = None
    latency_ms: int | None = None
    first_token_ms: int | None = None
    model: str | None = None
    provider_response_id: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None

    def end(self, error: BaseException | None) -> None:
        """Settle that there is no answer, and why.

        Args:
            error: What came in between; None, and whatever is no failure but somebody's wish to
                stop, is an interruption.
        """
        self.status = Status.FAILED
        if isinstance(error, QaError) and not isinstance(error, Interrupted):
            self.error = f"{error.kind}: {error.what}"
        elif isinstance(error, Exception) and not isinstance(error, Interrupted):
            self.error = f"unexpected: {type(error).__name__}"
        else:
            self.status = Status.INTERRUPTED
            self.error = "interrupted: stopped before the answer was complete"


def kind_and_reason(error: str | None) -> tuple[str, str]:
    """What `Outcome.end` has made one text of; both are empty where there is no error."""
    kind, _, reason = (error or "").partition(": ")
    return kind, reason


FIELDS = (
    *("id", "question", "answer", "created_at", "status", "error"),
    *("answered_at", "latency_ms", "first_token_ms"),
    *("model", "provider_response_id", "finish_reason", "system", "params"),
    *("prompt_tokens", "completion_tokens", "cost_usd"),
    *("follows_id", "batch_id", "item_key", "idempotency_key", "tags", "uid", "attachments"),
    *("caller", "request_id"),
)
"""The fields of a record, in the order in which every output has them."""


def document(ask: Ask, outcome: Outcome, record_id: int | None) -> dict[str, Any]:
    """The record as JSON has it: fields in their order, times in ISO 8601 with offset."""
    values = {**values_of(ask, outcome), "id": record_id}
    return {name: plain(values[name]) for name in FIELDS}


_in_order = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def canonical(
    question: str,
    system: str | None,
    params: dict[str, Any],
    attachments: list[dict[str, Any]],
    follows_id: int | None,
) -> str:
    """A question and all that shapes its answer, as one text: the same for the same request.

    From either database: PostgreSQL sorts an object's names and may give 1.0 back as 1.
    """
    return _in_order(
        [question, system or None, _whole_numbers(params), attachments, follows_id],
    )


def fingerprint(text: str) -> int:
    """64 bits of a canonical text, as both databases hold them."""
    # Not at the top: a command that asks nothing need not load it.
    from hashlib import sha256

    return int.from_bytes(sha256(text.encode()).digest()[:8], "big", signed=True)


def _whole_numbers(value: object) -> object:
    """A JSON value with whole numbers as such, where they are written with a point."""
    if isinstance(value, dict):
        return {name: _whole_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def fields_of(part: Ask | Outcome) -> dict[str, Any]:
    """Its fields by name; `dataclasses.asdict` would copy every text in them."""
    return {item.name: getattr(part, item.name) for item in fields(part)}


def values_of(ask: Ask, outcome: Outcome) -> dict[str, Any]:
    """All of a record but its id."""
    return {**fields_of(ask), **fields_of(outcome)}


def plain(value: object) -> object:
    """A field's value as JSON has it, the same from either database: objects sorted by name."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return _without_exponent(value)
    if isinstance(value, dict):
        return {name: plain(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.value if isinstance(value, Status) else value


def _without_exponent(value: float) -> float:
    """The number as PostgreSQL gives it back from JSON: 1e22 in digits, and no -0."""
    if isfinite(value) and abs(value) >= WITH_EXPONENT:
        from decimal import Decimal

        return int(Decimal(repr(value)))
    return value + 0.0


def _is_number(value: object, least: float, most: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and least <= value <= most  # type: ignore[operator]


def refuse_unstorable(text: object, what: str) -> None:
    """Refuse what PostgreSQL cannot hold, before anything is asked.

    Args:
        text: A text, or any JSON value with texts in it.
        what: What it is, for the message.

    Raises:
        InvalidRequest: It holds U+0000 or half a surrogate pair, which no UTF-8 can hold.
    """
    if isinstance(text, dict):
        text = [*text, *text.values()]
    if isinstance(text, list):
        for part in text:
            refuse_unstorable(part, what)
    if not isinstance(text, str):
        return
    if "\x00" in text:
        raise InvalidRequest(
            f"There is a NUL character (U+0000) in {what}, at position {text.index(chr(0)) + 1}.",
            "Remove it: no database text can hold it.",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"There is a byte that is not UTF-8 text in {what}, at position {error.start + 1}.",
            "Convert it to UTF-8 first.",
        ) from None


def refuse_unfit_tag(text: str) -> None:
    """Refuse what is no tag, at every door where one is given; a record that has it keeps it.

    Raises:
        InvalidRequest: It is blank, begins with a space, or cannot be stored.
    """
    if re.match(TAG, text) is None:
        raise InvalidRequest(
            f"{text!r} is no tag: it begins with nothing that can be seen.",
            "Begin it with a letter, say.",
        )
    refuse_unstorable(text, "a tag")


def storable(text: str) -> str:
    """An answer's text as any database can hold it: what it cannot hold becomes U+FFFD."""
    text = text.replace("\x00", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def whole(value: object) -> int | None:
    """A provider's count, where it is one that the database can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_ID:
        return None
    return int(value)
