"""The data classes of a question, its outcome, and the events while it is asked.

They are not the classes of the tables, so that a question can be sent before the database layer is
loaded. The fields of `Question` and `Outcome`, and the id, are the columns of `question_answer`; a
test compares them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from qacli.cache_key import cache_key, canonical_json
from qacli.errors import (
    Cancelled,
    DatabaseError,
    Interrupted,
    InvalidRequest,
    ProviderError,
    QaError,
    UnfitAnswer,
)
from qacli.model_options import check_params, merge_params
from qacli.validation import validate_tag, validate_text

if TYPE_CHECKING:
    from qacli.cancellation import Cancellation
    from qacli.raw_request import RawRequest, RelayEvent


class Status(StrEnum):
    """The status of a record."""

    ASKING = "asking"
    ANSWERED = "answered"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class GroupBy(StrEnum):
    """The column by which statistics are grouped."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    RATING = "rating"
    MODEL = "model"
    TAG = "tag"
    BATCH = "batch"
    ERROR = "error"
    ENDPOINT = "endpoint"


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, with everything that shapes its answer.

    Attributes:
        question: The text of the question, unchanged.
        system: The system prompt.
        params: The requested model, the temperature, the token limit and every other option of the
            request.
        follows_id: The record that this one follows up.
        corrects_id: The record whose answer did not fit its schema, if this question corrects it.
        repeats_id: The record whose question this one asks again.
        attachments: The files that are sent with the question: `name`, `size` in bytes, `sha256`.
        caller: The name of the access token of the HTTP request; None for the command line.
        request_id: The id of the HTTP request, as in the log.
        title: A name from the user; None if there is none.
        rating: The user's rating, from 1 (bad) to 5 (good); None if there is none.
        context_digest: The digest of the messages that were sent; see `qacli.message_digests`.
        uid: A random id, which exists before the database gives the record its id.

    Raises:
        InvalidRequest: The question is empty, or a field cannot be stored or sent.
    """

    question: str
    system: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    follows_id: int | None = None
    corrects_id: int | None = None
    repeats_id: int | None = None
    batch_id: int | None = None
    item_key: str | None = None
    idempotency_key: str | None = None
    tags: list[str] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    caller: str | None = None
    request_id: str | None = None
    context_digest: str | None = None
    title: str | None = None
    rating: int | None = None
    uid: str = field(default_factory=lambda: uuid4().hex)
    created_at: datetime = field(default_factory=now)

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise InvalidRequest("The question is empty.", 'Ask something: qa ask "Who am I?"')
        for name in ("question", "system", "item_key", "idempotency_key", "title"):
            validate_text(getattr(self, name), f"the {name.replace('_', ' ')}")
        for name, value in self.params.items():
            validate_text([name, value], f"the {name.replace('_', ' ')}")
        validate_text(self.tags, "a tag")
        validate_text(self.attachments, "an attachment's name")

    @property
    def model(self) -> str:
        """The requested model; the provider may name the model of the answer differently."""
        return str(self.params.get("model", ""))

    @property
    def cache_key(self) -> int:
        """The hash by which the same question is found; see `qacli.cache_key`."""
        return cache_key(self.canonical_json())

    def canonical_json(self) -> str:
        """Return everything that shapes the answer as text; see `qacli.cache_key`."""
        return canonical_json(
            self.question, self.system, self.params, self.attachments, self.follows_id
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredQuestion(Question):
    """A question that was accepted with status 202: its client does not wait for the answer.

    If its process ends before there is an answer, the next server asks it again.
    """


def create_question(  # noqa: PLR0913 - the input, by name
    question: str,
    *,
    model: str,
    system: str | None,
    params: Mapping[str, Any] | None = None,
    response_format: dict[str, Any] | None = None,
    tags: Sequence[str] = (),
    follows_id: int | None = None,
    repeats_id: int | None = None,
    attachments: Sequence[dict[str, Any]] = (),
) -> Question:
    """Build a question from the input of a command or a request; see `Question`.

    `params` are the options that go to the model, by their names in `qacli.model_options`, and
    `response_format` is the format of the answer, as in the provider's API.

    Raises:
        InvalidRequest: See `Question` and `validate_tag`.
    """
    for tag in tags:
        validate_tag(tag)
    own = {"model": model, "response_format": response_format}
    merged = merge_params(own, params or {})
    check_params(merged)
    return Question(
        question=question,
        system=system or None,
        params=merged,
        tags=list(tags),
        follows_id=follows_id,
        repeats_id=repeats_id,
        attachments=list(attachments),
    )


@dataclass(frozen=True, slots=True)
class ContextPart:
    """An attachment as it is sent before a question: text, an image, a PDF or a sound.

    Attributes:
        text: The text of a file with its name, or only the name of another attachment.
        image_url: The image, as a `data:` URL.
        file_url: The PDF or the sound, as a `data:` URL.
        file_name: The name of that file, without directories.
    """

    text: str
    image_url: str | None = None
    file_url: str | None = None
    file_name: str = ""

    @property
    def media_type(self) -> str | None:
        """The media type of an image, a PDF or a sound, such as `application/pdf`."""
        url = self.image_url or self.file_url
        return url.removeprefix("data:").partition(";")[0] if url is not None else None


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question of the conversation with its answer and its attachments."""

    question: str
    answer: str
    parts: Sequence[ContextPart] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A request to the provider.

    Attributes:
        question: The question; if its params have `messages`, they are sent unchanged.
        turns: The earlier questions and answers of the conversation, the oldest first.
        parts: Files and images that are put before the question.
        stream: Ask for the answer as a stream; otherwise as one JSON document.
        raw: The request of a client, which is sent unchanged instead of all this.
        cancellation: Ends the request from another thread; None if no thread can cancel it.
    """

    question: Question
    turns: Sequence[Turn] = ()
    parts: Sequence[ContextPart] = ()
    stream: bool = True
    raw: "RawRequest | None" = None
    cancellation: "Cancellation | None" = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcome of a question; fields that are not known yet are None.

    Attributes:
        error_kind: The kind of the error, as in `qacli.errors`.
        error: The message of the error, without secrets.
        cached_tokens: The part of `prompt_tokens` that the provider took from its cache.
        reasoning_tokens: The part of `completion_tokens` that is reasoning.
        reasoning: The model's reasoning, which is not part of the answer.
        details: Everything else in the provider's response, by the provider's own names.
        endpoint: The host, with its port if that is not the default; `local` for the local
            model.
    """

    status: Status = Status.ASKING
    answer: str | None = None
    error_kind: str | None = None
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
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    reasoning: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    endpoint: str | None = None

    def fail(self, error: BaseException | None) -> None:
        """Mark the outcome as failed with an error, or as interrupted.

        Args:
            error: The error. None, `Interrupted`, and exceptions such as KeyboardInterrupt are an
                interruption.
        """
        self.status = Status.FAILED
        if isinstance(error, Cancelled):
            self.status = Status.INTERRUPTED
            self.error_kind, self.error = error.kind, error.what
        elif isinstance(error, QaError) and not isinstance(error, Interrupted):
            self.error_kind, self.error = error.kind, error.what
            if isinstance(error, ProviderError) and error.details:
                self.details = {**self.details, "error": error.details}
        elif isinstance(error, Exception) and not isinstance(error, Interrupted):
            self.error_kind, self.error = QaError.kind, type(error).__name__
        else:
            self.interrupt("stopped before the answer was complete")

    def interrupt(self, reason: str) -> None:
        """Mark the outcome as interrupted."""
        self.status = Status.INTERRUPTED
        self.error_kind, self.error = Interrupted.kind, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A question after it was asked, with its outcome.

    Attributes:
        question: The question.
        outcome: Its outcome.
        record_id: The id of its record; None if the database does not have it yet.
        undelivered: The error because of which the outcome is only in the outbox; None if the
            database has it.
    """

    question: Question
    outcome: Outcome
    record_id: int | None
    undelivered: DatabaseError | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The question is in the outbox and is sent next.

    Attributes:
        question: The question.
        record_id: The id of its record, if one was reserved.
    """

    question: Question
    record_id: int | None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer's text has arrived; it is not empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the model's reasoning has arrived; it is not empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing has arrived for a while; the display or the connection can be checked."""


@dataclass(frozen=True, slots=True)
class Received:
    """No more text follows; the outcome is recorded next."""


@dataclass(frozen=True, slots=True)
class Repairing:
    """The answer does not fit its schema, was recorded as failed, and is requested again.

    The next event is the `Started` of the second question.
    """

    error: UnfitAnswer
    result: Result


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the answer is complete."""

    result: Result


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event: there is no usable answer.

    Attributes:
        error: The reason; it may be an exception that the reader has thrown into the stream.
        result: The outcome; None if the error is not about the question.
    """

    error: BaseException
    result: Result | None = None


AnswerEvent: TypeAlias = (
    "Started | Delta | ReasoningDelta | RelayEvent | Heartbeat | Received | Repairing | Finished"
    " | Failed"
)
"""An event of a question; `qacli.services.ask.AskService.stream` documents their order."""
