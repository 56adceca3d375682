"""The use case: a question in, a recorded answer out. Joins provider, outbox and store.

The order is what keeps the promise: noted in the outbox, asked, each piece noted as it arrives,
the outcome noted, kept in the database, and only then dropped from the outbox. Whatever happens
in between, the next command finds either the record or the note.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from qacli.cost import Pricing
from qacli.domain import ChatRequest, Outcome, Question, Status, Turn, now
from qacli.errors import (
    DatabaseError,
    QaError,
    UnfitAnswer,
)
from qacli.recording.outbox import Outbox
from qacli.recording.recorder import Recorder, SingleRecorder

if TYPE_CHECKING:
    from qacli.db.records import Store
    from qacli.provider.response import ChatResponse
    from qacli.provider.sync import SyncProvider


Observer = Callable[[Question], Callable[[Outcome], None]]
"""Told of a question that is asked; what it gives is told the outcome."""


def null_observer(_ask: Question) -> Callable[[Outcome], None]:
    """Nobody wants to know."""
    return lambda _outcome: None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskService:
    """What is needed to ask and keep.

    Attributes:
        provider: Gives a provider for a question's model.
        outbox: Where questions wait for the database; None asks without keeping anything.
        store: Opens the history, or gives the open one; called only when an answer is to be kept,
            so that a request need not wait until the database layer is loaded.
        prices: For the cost of an answer.
        keeper: Keeps what any number of threads ask together, in place of a journal for each.
        watch: Told of each question and its outcome, for metrics and traces.
    """

    provider: Callable[[Question], "SyncProvider"]
    outbox: Outbox | None
    store: "Callable[[], Store]"
    prices: Pricing = field(default_factory=Pricing)
    shared_recorder: Recorder | None = None
    observer: Observer = null_observer

    def ask(
        self,
        ask: Question,
        request: ChatRequest | None = None,
        *,
        reserve: bool = False,
        check: Callable[[str], None] | None = None,
        beat: float | None = None,
    ) -> "AskSession":
        """An exchange to be entered and read; see there.

        Args:
            ask: The question, as the record keeps it.
            request: The request to the provider; None sends the question alone.
            reserve: Keep a record in the state `asking` first, so that it has an id at once; then
                a database that is down is an error before anything is asked.
            check: Raises UnfitAnswer for a whole answer that is not what was asked for; the
                record is a failed one then, with all of the answer.
            beat: Seconds of silence after which the exchange gives an empty text.
        """
        return AskSession(
            self,
            ask,
            request or ChatRequest(question=ask),
            reserve=reserve,
            check=check,
            beat=beat,
        )

    def get_recorder(self) -> Recorder | None:
        """What keeps the next question."""
        if self.shared_recorder is not None:
            return self.shared_recorder
        return None if self.outbox is None else SingleRecorder(self.outbox, self.store)


class AskSession:
    """One question being asked: enter it, read the answer's text from it, and it is kept.

    However the `with` block ends, the outcome is recorded: the whole answer, or what had arrived
    and why there is no more.

    Attributes:
        ask: The question.
        outcome: What became of it; complete after the block.
        record_id: The record's id, once the database has given it one.
        undelivered: Why the database has not got it yet; it waits in the outbox then.
        unfit: Why the whole answer is not what was asked for, where it was checked.
    """

    def __init__(  # noqa: PLR0913 - as Asking.ask
        self,
        asking: AskService,
        ask: Question,
        request: ChatRequest,
        *,
        reserve: bool,
        check: Callable[[str], None] | None,
        beat: float | None,
    ) -> None:
        self.ask = ask
        self.outcome = Outcome()
        self.record_id: int | None = None
        self.undelivered: DatabaseError | None = None
        self.schema_error: UnfitAnswer | None = None
        self._service = asking
        self._reserve = reserve
        self._request = request
        self._check = check
        self._heartbeat_seconds = beat
        self._recorder: Recorder | None = None
        self._response: ChatResponse | None = None
        self._chunks: Generator[str, None, None] | None = None

    def __enter__(self) -> Self:
        self._provider = self._service.provider(self.ask)
        keeping = self._service.get_recorder()
        if keeping is not None:
            self.record_id = keeping.begin(self.ask, reserve=self._reserve)
            self._recorder = keeping
        self._notify_observer = self._service.observer(self.ask)
        return self

    def __iter__(self) -> Iterator[str]:
        from qacli.provider.response import ChatResponse

        self._response = ChatResponse()
        self._chunks = self._validated_chunks(
            self._provider.stream(
                self._request,
                self._response,
                on_arrival=self._record_text,
                beat=self._heartbeat_seconds,
            ),
            self._response,
        )
        return self._chunks

    def follow_up(self, question: str, *, corrects: bool = False) -> "AskSession":
        """Return a question about this answer, with all that went along with this one.

        Args:
            question: The question.
            corrects: Whether it asks for the same answer again, since this one did not fit.
        """
        ask = replace(
            self.ask,
            question=question,
            follows_id=self.record_id,
            corrects_id=self.record_id if corrects else None,
            idempotency_key=None,
            uid=uuid4().hex,
            created_at=now(),
        )
        sent = self._request
        turn = Turn(self.ask.question, self.outcome.answer or "", sent.parts)
        return self._service.ask(
            ask,
            ChatRequest(question=ask, turns=[*sent.turns, turn], stream=sent.stream),
            reserve=self._reserve,
            check=self._check,
            beat=self._heartbeat_seconds,
        )

    def repair(self) -> "AskSession | None":
        """What asks once more where the whole answer did not fit; None where that is no help."""
        from qacli.json_schema import repair_prompt

        # What the token limit has cut would be cut again, and an endless check has no end.
        if (
            self.schema_error is None
            or self.schema_error.fatal
            or self.outcome.finish_reason == "length"
        ):
            return None
        return self.follow_up(repair_prompt(self.schema_error), corrects=True)

    def _validated_chunks(
        self, texts: Generator[str, None, None], reply: "ChatResponse"
    ) -> Generator[str, None, None]:
        yield from texts
        self._validate_answer(reply.text)
        if self.schema_error is not None:
            raise self.schema_error

    def _validate_answer(self, answer: str) -> None:
        if self._check is None or self.schema_error is not None:
            return
        try:
            self._check(answer)
        except UnfitAnswer as error:
            self.schema_error = error

    def _record_text(self, text: str) -> None:
        if self._recorder is not None:
            self._recorder.append_text(self.ask.uid, text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._chunks is not None:
            self._chunks.close()
        self._finalize(error)
        self._notify_observer(self.outcome)
        if self._recorder is None:
            return
        try:
            record_id, self.undelivered = self._recorder.finish(self.ask, self.outcome)
        except DatabaseError as failure:
            raise failure from error
        except (KeyboardInterrupt, SystemExit):
            # Whoever does not wait for the database wants to know where the answer is.
            self.undelivered = DatabaseError("The database has not said yet that it has it.")
            raise
        self.record_id = record_id or self.record_id
        if isinstance(error, QaError):
            error.record_id = self.record_id

    def _finalize(self, error: BaseException | None) -> None:
        """Settle the outcome: an answer that is complete is one, whatever happened since."""
        if self._response is not None:
            self.outcome = self._response.outcome(self._service.prices)
        outcome = self.outcome
        if outcome.status is Status.ANSWERED:
            # Whoever left before the end of it has not seen it checked.
            self._validate_answer(outcome.answer or "")
            if self.schema_error is not None:
                outcome.fail(self.schema_error)
        else:
            outcome.fail(error)
