"""Return the first answer to a question that is sent again with its idempotency key.

Each caller has its own keys. A key is unique in the database, so two concurrent requests, even to
two processes, make one record: the second request waits for the answer of the first. An answered
question returns the same answer each time it is sent; a failed or interrupted question is asked
again, in a new record that takes over the key.
"""

from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import timedelta
from time import monotonic, sleep
from typing import Any

from qacli.db.filters import Filter
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.domain import (
    AnswerEvent,
    Delta,
    Failed,
    Finished,
    Heartbeat,
    Question,
    ReasoningDelta,
    Started,
    Status,
    now,
)
from qacli.errors import (
    DatabaseError,
    InvalidRequest,
    QaError,
    RecordRefused,
    StillAsking,
    error_classes,
)
from qacli.schema_repair import is_repairable
from qacli.services.record_request import result_of
from qacli.web.answer import AnswerStream
from qacli.web.request_context import current_context
from qacli.web.state import AppState

FIRST_PAUSE, MAX_PAUSE = 0.05, 1.0
"""Seconds between two reads of a record that another request, of any process, completes."""

CORRECTION_GRACE = timedelta(seconds=5)
"""Grace period in which the repair request for an invalid answer may still appear."""


class ReplayedAnswer(AnswerStream):
    """The answer of an earlier request; reading or closing it does not change that request."""

    def __init__(
        self, state: AppState, record: QuestionAnswer, *, heartbeat_seconds: float | None
    ) -> None:
        # Take the caller's store now: the answer is read after the request context has ended.
        events = _replay(state, state.store, record, heartbeat_seconds)
        super().__init__(events, completes=False)
        self._record = record

    def complete_in_background(self) -> None:
        """Stop waiting; the earlier request completes the answer."""
        self.close()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as it was when this request came."""
        return self._record.to_dict()


def _replay(
    state: AppState, store: Store, record: QuestionAnswer, heartbeat_seconds: float | None
) -> Generator[AnswerEvent]:
    """Yield the events of a record; wait for its outcome if it has none yet."""
    started = Started(result_of(record).question, record.id)
    if is_final(record, store):
        yield started
    else:
        with state.slot():
            yield started
            record = yield from _wait(state, store, record, heartbeat_seconds)
    record = resolve_correction(record, store)
    result = result_of(record)
    if result.record_id != started.record_id:
        yield Started(result.question, result.record_id)
    if result.outcome.status is Status.ANSWERED:
        if result.outcome.reasoning:
            yield ReasoningDelta(result.outcome.reasoning)
        yield Delta(result.outcome.answer or "")
        yield Finished(result)
    else:
        yield Failed(error_from_record(record), result)


def _wait(
    state: AppState, store: Store, record: QuestionAnswer, heartbeat_seconds: float | None
) -> Generator[Heartbeat, None, QuestionAnswer]:
    """Wait until the earlier request has completed the record, and return the record.

    Raises:
        StillAsking: The record is not complete within the time limit for an answer.
    """
    pause, start = FIRST_PAUSE, monotonic()
    last = start
    while monotonic() - start <= state.timeout:
        # If the database cannot be reached, try again after the pause.
        with suppress(DatabaseError):
            record = store.get(record.id or 0)
            if is_final(record, store):
                return record
        sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE)
        if heartbeat_seconds is not None and monotonic() - last >= heartbeat_seconds:
            last = monotonic()
            yield Heartbeat()
    raise StillAsking(
        "The first request with this Idempotency-Key has no answer yet.",
        "Ask again with the same key later, or read the record.",
    )


def begin_or_replay(
    state: AppState,
    question: Question,
    start: Callable[[], AnswerStream],
    *,
    heartbeat_seconds: float | None = None,
) -> AnswerStream:
    """Start to answer a question, or replay the answer that its key already has.

    Args:
        state: The application's state.
        question: The question.
        start: Starts to answer it.
        heartbeat_seconds: See `qacli.web.answer.start_request`.

    Raises:
        InvalidRequest: The key was used for another question.
        QaError: See `start`.
    """
    store, key, caller = state.store, question.idempotency_key, current_context().caller
    while key is not None:
        first = store.by_idempotency_key(key, caller)
        if first is None:
            try:
                return start()
            except RecordRefused:
                # Another request may have taken the key since the check above.
                if store.by_idempotency_key(key, caller) is None:
                    raise
        else:
            _require_same_question(first, question)
            record = resolve_correction(first, store)
            if record.status is Status.ANSWERED or not is_final(first, store):
                return ReplayedAnswer(state, record, heartbeat_seconds=heartbeat_seconds)
            store.release_idempotency_key(first.uid)
    return start()


def resolve_correction(record: QuestionAnswer, store: Store) -> QuestionAnswer:
    """Return the record that corrects this one, or this record if there is none."""
    return _correction_of(record, store) or record


def is_final(record: QuestionAnswer, store: Store) -> bool:
    """Return True if the outcome of a record is final."""
    latest = resolve_correction(record, store)
    if latest.status is Status.ASKING:
        return False
    awaits_correction = _is_correctable(latest) and latest is record
    ended = latest.answered_at
    return not (awaits_correction and ended and now() - ended < CORRECTION_GRACE)


def error_from_record(record: QuestionAnswer) -> QaError:
    """Return the error that the first request for a record ended in."""
    classes = {error.kind: error for error in error_classes()}
    error = classes.get(record.error_kind or "", QaError)(
        record.error or "It has no answer.", "Ask again with the same Idempotency-Key."
    )
    error.record_id = record.id
    return error


def _is_correctable(record: QuestionAnswer) -> bool:
    """Return True if the question is asked once more: the answer is unfit, but was not cut."""
    error = error_from_record(record)
    return is_repairable(error, record.finish_reason) and record.corrects_id is None


def _correction_of(record: QuestionAnswer, store: Store) -> QuestionAnswer | None:
    if not _is_correctable(record):
        return None
    # follows_id as well, because it has an index.
    only = Filter(follows_id=record.id, corrects_id=record.id)
    return next(iter(store.page(limit=1, newest_first=True, only=only)), None)


def _require_same_question(first: QuestionAnswer, question: Question) -> None:
    same = first.canonical_json() == question.canonical_json() and first.tags == question.tags
    if not same:
        raise InvalidRequest(
            f"This Idempotency-Key was used for another question, record {first.id}.",
            "Use a new key for each question.",
        )
