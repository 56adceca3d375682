"""One question on its way, and what became of it: plain data that costs nothing to import.

A request must not wait until the database layer is loaded, so what the outbox writes down and
the provider fills in is not the table's class. Together with the id, the fields of `Ask` and
`Outcome` are the columns of `question_answer`; a test holds them to that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from qacli.errors import InvalidRequest

MAX_ID = 2**63 - 1
"""The largest id that either database can hold."""


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
        InvalidRequest: See `Ask`.
    """
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


FIELDS = (
    *("id", "question", "answer", "created_at", "status", "error"),
    *("answered_at", "latency_ms", "first_token_ms"),
    *("model", "provider_response_id", "finish_reason", "system", "params"),
    *("prompt_tokens", "completion_tokens", "cost_usd"),
    *("follows_id", "batch_id", "item_key", "idempotency_key", "tags", "uid", "attachments"),
)
"""The fields of a record, in the order in which every output has them."""


def document(ask: Ask, outcome: Outcome, record_id: int | None) -> dict[str, Any]:
    """The record as JSON has it: fields in their order, times in ISO 8601 with offset."""
    values = {**values_of(ask, outcome), "id": record_id}
    return {name: plain(values[name]) for name in FIELDS}


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
    if isinstance(value, dict):
        return {name: plain(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.value if isinstance(value, Status) else value


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


def storable(text: str) -> str:
    """An answer's text as any database can hold it: what it cannot hold becomes U+FFFD."""
    text = text.replace("\x00", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def whole(value: object) -> int | None:
    """A provider's count, where it is one that the database can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_ID:
        return None
    return int(value)
