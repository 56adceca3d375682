"""The same question again, by its idempotency key: whoever asks twice is answered once.

Each caller has keys of its own. A key is unique in the database, so two requests that come
together, even at two processes, make one record: the one that does not make it waits for what the
other one gets. A question that has its answer gives it again, as often as it is asked for; one
that has failed, or was interrupted, is asked anew, in a record of its own that takes the key over:
a client that comes again wants an answer.
"""

from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any

from qacli.db.filters import Filter
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.domain import Question, Status, now
from qacli.errors import (
    DatabaseError,
    InvalidRequest,
    QaError,
    RecordRefused,
    StillAsking,
    UnfitAnswer,
    error_classes,
)
from qacli.web.answer import AnswerStream, LiveAnswer
from qacli.web.request_context import current_context
from qacli.web.state import AppState

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks at a record that another request, perhaps elsewhere, completes."""

CORRECTION_GRACE = timedelta(seconds=5)
"""How soon after an answer that does not fit the question for another must have a record."""


class ReplayedAnswer(AnswerStream):
    """An answer that an earlier request asked for; read as an `ResponseSpec` is.

    Args:
        service: Where the history is.
        record: The record as it is now.
        beat: Seconds of waiting after which an empty text is given.
    """

    def __init__(self, service: AppState, record: QuestionAnswer, *, beat: float | None) -> None:
        self._service = service
        # The caller's own records: the answer is read after the request is over.
        self._store = service.store
        self._record = record
        self._heartbeat_seconds = beat
        self._pieces = self._run()

    @property
    def record_id(self) -> int | None:
        """The record's id."""
        return self._record.id

    @property
    def created_at(self) -> datetime:
        """When it was asked."""
        return self._record.created_at

    def to_dict(self) -> dict[str, Any]:
        """The record."""
        return self._record.to_dict()

    def complete_in_background(self) -> None:
        """Wait no longer: the earlier request goes on by itself."""
        self.close()

    def close(self) -> None:
        """Whoever read it has left."""
        self._pieces.close()

    def _run(self) -> Generator[str, None, None]:
        if not is_final(self._record, self._store):
            with self._service.slot():
                yield from self._wait()
        else:
            yield ""
        self._record = resolve_correction(self._record, self._store)
        if self._record.status is not Status.ANSWERED:
            raise error_from_record(self._record)
        yield self._record.answer or ""

    def _wait(self) -> Generator[str, None, None]:
        yield ""
        pause, begun = FIRST_PAUSE, monotonic()
        last = begun
        while not self._refresh():
            if monotonic() - begun > self._service.timeout:
                raise StillAsking(
                    "The first request with this Idempotency-Key has no answer yet.",
                    "Ask again with the same key later, or read the record.",
                )
            sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
            if (
                self._heartbeat_seconds is not None
                and monotonic() - last >= self._heartbeat_seconds
            ):
                last = monotonic()
                yield ""

    def _refresh(self) -> bool:
        """See what has become of it; while the database is away, nothing has."""
        with suppress(DatabaseError):
            self._record = self._store.get(self._record.id or 0)
            return is_final(self._record, self._store)
        return False


def begin_or_replay(
    service: AppState, ask: Question, make: Callable[[], LiveAnswer], *, beat: float | None = None
) -> AnswerStream:
    """The answer, started; or, where its key has been used, what came of it then.

    Args:
        service: Where the history is.
        ask: The question.
        make: Makes the answer to it.
        beat: As the answer's.

    Raises:
        InvalidRequest: The key was used for another question.
        QaError: As `ResponseSpec.start`.
    """
    store, key, caller = service.store, ask.idempotency_key, current_context().caller
    while key is not None:
        first = store.by_idempotency_key(key, caller)
        if first is None:
            try:
                return make().begin()
            except RecordRefused:
                # Another request may have been there first, by a moment.
                if store.by_idempotency_key(key, caller) is None:
                    raise
        else:
            _require_same_question(first, ask)
            found = resolve_correction(first, store)
            if found.status is Status.ANSWERED or not is_final(first, store):
                return ReplayedAnswer(service, found, beat=beat).begin()
            store.release_idempotency_key(first.uid)
    return make().begin()


def resolve_correction(record: QuestionAnswer, store: Store) -> QuestionAnswer:
    """The record, or the one that corrects it: an answer that did not fit was asked for again."""
    return _correction_of(record, store) or record


def is_final(record: QuestionAnswer, store: Store) -> bool:
    """Whether nothing more will become of it."""
    found = resolve_correction(record, store)
    if found.status is Status.ASKING:
        return False
    awaits_correction = _is_correctable(found) and found is record
    ended = found.answered_at
    return not (awaits_correction and ended and now() - ended < CORRECTION_GRACE)


def error_from_record(record: QuestionAnswer) -> QaError:
    """The error that a record ended in, as its first request was told it."""
    classes = {error.kind: error for error in error_classes()}
    error = classes.get(record.error_kind or "", QaError)(
        record.error or "It has no answer.", "Ask again with the same Idempotency-Key."
    )
    error.record_id = record.id
    return error


def _is_correctable(record: QuestionAnswer) -> bool:
    """Return whether its answer is asked for again: once, and not where it was cut."""
    unfit = record.error_kind == UnfitAnswer.kind
    return unfit and record.finish_reason != "length" and record.corrects_id is None


def _correction_of(record: QuestionAnswer, store: Store) -> QuestionAnswer | None:
    if not _is_correctable(record):
        return None
    # The index is of follows_id.
    only = Filter(follows_id=record.id, corrects_id=record.id)
    return next(iter(store.page(limit=1, newest_first=True, only=only)), None)


def _require_same_question(first: QuestionAnswer, ask: Question) -> None:
    if first.canonical_json() != ask.canonical_json() or first.tags != ask.tags:
        raise InvalidRequest(
            f"This Idempotency-Key was used for another question, record {first.id}.",
            "Use a new key for each question.",
        )
