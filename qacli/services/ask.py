"""Ask a question and record its answer: the provider, the outbox and the database together.

The order of the steps makes sure that nothing is lost:

1. The question goes into the outbox.
2. It is sent, and each piece of the answer goes into the outbox as it arrives; then the outcome.
3. The record goes into the database.
4. The entry of the outbox is deleted.

If the process ends at any time, the next command finds the record or the entry of the outbox.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from qacli.cost import Pricing
from qacli.domain import (
    AnswerEvent,
    ChatRequest,
    Delta,
    Failed,
    Finished,
    Heartbeat,
    Outcome,
    Question,
    ReasoningDelta,
    Received,
    Repairing,
    Result,
    Started,
    Status,
    Turn,
    now,
)
from qacli.errors import DatabaseError, QaError, UnfitAnswer
from qacli.provider.response import ChatResponse, TextEvent
from qacli.recording.outbox import Outbox
from qacli.recording.recorder import Recorder, SingleRecorder

if TYPE_CHECKING:
    from qacli.db.records import Store
    from qacli.provider.relay import RawEvent


class Provider(Protocol):
    """A provider, or several of which one answers."""

    def stream(
        self,
        request: ChatRequest,
        response: ChatResponse,
        *,
        on_arrival: Callable[[TextEvent], None],
        heartbeat_seconds: float | None,
        deltas: bool,
    ) -> "Generator[RawEvent | Heartbeat]":
        """Ask; see `qacli.provider.sync.SyncProvider.stream`."""


Check = Callable[[str], None]
"""Raises UnfitAnswer for a complete answer that does not fit its schema."""

Observer = Callable[[Question], Callable[[Outcome], None]]
"""Called when a question is sent; returns a callback for its outcome."""


def null_observer(_question: Question) -> Callable[[Outcome], None]:
    """Observe nothing."""
    return lambda _outcome: None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskService:
    """Asks questions and records them.

    Attributes:
        provider: Returns the provider of a question, chosen by its model.
        outbox: The outbox; None asks without recording anything.
        store: Returns the open history; called only when an outcome is recorded, so that a request
            need not wait until the database layer is loaded.
        prices: The prices of models.
        shared_recorder: The recorder that all threads share; None makes one for each question.
        observer: Called with each question and its outcome, for metrics and traces.
    """

    provider: Callable[[Question], Provider]
    outbox: Outbox | None
    store: "Callable[[], Store]"
    prices: Pricing = field(default_factory=Pricing)
    shared_recorder: Recorder | None = None
    observer: Observer = null_observer

    def stream(  # noqa: PLR0913 - the question and how to ask it, by name
        self,
        question: Question,
        request: ChatRequest | None = None,
        *,
        reserve: bool = False,
        check: Check | None = None,
        heartbeat_seconds: float | None = None,
        deltas: bool = True,
    ) -> Generator[AnswerEvent]:
        """Ask a question, and ask again if the answer does not fit its schema.

        Yields `Started`, `ReasoningDelta`, `Delta` and `Heartbeat` in any number, `Received`, and
        after the outcome is recorded `Finished` or `Failed`; in place of `Failed` may come
        `Repairing` and the same events of a second question. A reader that closes the generator, or
        throws an exception into it, ends the request: the part of the answer that has arrived is
        recorded.

        Args:
            question: The question, as it is recorded.
            request: The request to the provider; None sends the question alone.
            reserve: Keep a record in the state `asking` first, so that it has an id at once; then
                a database that is down is an error before anything is sent.
            check: Checks the answer, which comes in one `Delta` then, after the check, and its
                reasoning in one `ReasoningDelta` before.
            heartbeat_seconds: Seconds of silence after which a `Heartbeat` comes; None: never.
            deltas: Yield text and reasoning as they arrive; otherwise as with `check`.

        Raises:
            QaError: A question could not be written down, so it was not sent.
            DatabaseError: The generator was closed, and the outcome could not be recorded.
        """
        request = request or ChatRequest(question=question)
        ask = partial(
            self._ask,
            reserve=reserve,
            check=check,
            heartbeat_seconds=heartbeat_seconds,
            deltas=deltas and check is None,
        )
        end = yield from ask(question, request)
        if isinstance(end, Failed) and isinstance(end.error, UnfitAnswer) and end.result:
            from qacli.schema_repair import is_repairable, repair_prompt

            if is_repairable(end.error, end.result.outcome.finish_reason):
                yield Repairing(end.error, end.result)
                second = build_repair(
                    end.result, request, repair_prompt(end.error, question.params)
                )
                end = yield from ask(second.question, second)
        yield end

    def _recorder(self) -> "Recorder | _NullRecorder":
        if self.shared_recorder is not None:
            return self.shared_recorder
        return SingleRecorder(self.outbox, self.store) if self.outbox else _NullRecorder()

    def _ask(  # noqa: PLR0913 - as `stream`
        self,
        question: Question,
        request: ChatRequest,
        *,
        reserve: bool,
        check: Check | None,
        heartbeat_seconds: float | None,
        deltas: bool,
    ) -> Generator[AnswerEvent, None, Finished | Failed]:
        """Ask once; returns the last event."""
        provider = self.provider(question)
        recorder = self._recorder()
        record_id = recorder.begin(question, reserve=reserve)
        report = self.observer(question)
        response: ChatResponse | None = None
        error: BaseException | None = None
        try:
            yield Started(question, record_id)
            response = ChatResponse()
            yield from provider.stream(
                request,
                response,
                on_arrival=partial(recorder.append, question.uid),
                heartbeat_seconds=heartbeat_seconds,
                deltas=deltas,
            )
            if check is not None:
                check(response.text)
            if not deltas and request.raw is None:
                if response.reasoning_texts:
                    yield ReasoningDelta("".join(response.reasoning_texts))
                yield Delta(response.text)
        except BaseException as raised:  # noqa: BLE001 - recorded, and yielded or raised below
            error = raised
        outcome = self._outcome(response, check, error)
        if not isinstance(error, GeneratorExit):
            try:
                yield Received()
            except BaseException as raised:  # noqa: BLE001 - as above
                error = raised
        is_closed = isinstance(error, GeneratorExit)
        report(outcome)
        result = Result(question=question, outcome=outcome, record_id=record_id)
        result, error = _record(recorder, result, error)
        if error is not None and is_closed:
            raise error
        return Finished(result) if error is None else Failed(error, result)

    def _outcome(
        self, response: ChatResponse | None, check: Check | None, error: BaseException | None
    ) -> Outcome:
        """Return the outcome: a complete answer is one, whatever happened after it."""
        outcome = Outcome() if response is None else response.outcome(self.prices)
        if outcome.status is not Status.ANSWERED or isinstance(error, UnfitAnswer):
            outcome.fail(error)
        elif error is not None and check is not None:
            # The reader left before the answer was checked.
            try:
                check(outcome.answer or "")
            except UnfitAnswer as unfit:
                outcome.fail(unfit)
        return outcome


def _record(
    recorder: "Recorder | _NullRecorder", result: Result, error: BaseException | None
) -> tuple[Result, BaseException | None]:
    """Record an outcome; returns the result with its record's id, and the error to report."""
    try:
        record_id, undelivered = recorder.finish(result.question, result.outcome)
    except DatabaseError as failure:
        failure.__cause__ = error
        return result, failure
    except (KeyboardInterrupt, SystemExit) as stop:
        undelivered = DatabaseError("The database has not confirmed the record yet.")
        return replace(result, undelivered=undelivered), stop
    record_id = record_id or result.record_id
    if isinstance(error, QaError):
        error.record_id = record_id
    return replace(result, record_id=record_id, undelivered=undelivered), error


class _NullRecorder:
    """Records nothing; see `qacli.recording.recorder.Recorder`."""

    def begin(self, _question: Question, *, reserve: bool) -> None:  # noqa: ARG002 - the protocol's
        return None

    def append(self, uid: str, event: TextEvent) -> None:
        pass

    def finish(self, _question: Question, _outcome: Outcome) -> tuple[None, None]:
        return None, None


def build_repair(result: Result, request: ChatRequest, text: str) -> ChatRequest:
    """Build the request that asks for the same answer again.

    Args:
        result: The answer that does not fit its schema.
        request: The request that was answered: its turns and parts are sent again.
        text: The new question; all else is as in the first one.
    """
    question = replace(
        result.question,
        question=text,
        follows_id=result.record_id,
        corrects_id=result.record_id,
        repeats_id=None,
        idempotency_key=None,
        uid=uuid4().hex,
        created_at=now(),
    )
    turn = Turn(result.question.question, result.outcome.answer or "", request.parts)
    return ChatRequest(
        question=question,
        turns=[*request.turns, turn],
        stream=request.stream,
        cancellation=request.cancellation,
    )


def wait_for_result(events: Iterable[AnswerEvent]) -> Result:
    """Read all events; return the result of the last one.

    Raises:
        BaseException: The error of `Failed`.
    """
    end: AnswerEvent | None = None
    for event in events:
        end = event
    if isinstance(end, Failed):
        raise end.error
    assert isinstance(end, Finished), "the last event"  # noqa: S101 - for the type checker
    return end.result
