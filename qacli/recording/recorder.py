"""Record questions and their outcomes, first in a journal, then in the database.

The order makes them durable: the journal has the question before it is sent, each piece of text as
it arrives, and then the outcome; the database gets the record; then the journal entry is deleted.

    begin ---> journal (fsync) ---> [database: record `asking`] ---> send
    finish --> journal ---> queue ---> database thread: a transaction for all that is queued

One thread writes to the database. Records that arrive while it is busy go into its next
transaction, so that the terminal (a group of one), the server and a batch use the same code. See
docs/adr/0005-group-commit.md.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qacli.domain import Delta, Outcome, Question, ReasoningDelta, Status
from qacli.errors import DatabaseError, OutboxUnwritable, RecordRefused
from qacli.recording.journal_format import (
    completed_entry,
    outcome_entry,
    question_entry,
    text_entry,
)
from qacli.recording.journal_writer import JournalEntry, JournalWriter
from qacli.recording.outbox import Outbox

if TYPE_CHECKING:
    from qacli.db.records import Store

LOG = logging.getLogger("qa.web")

MAX_GROUP = 500
"""Records in one transaction; a limit, because other processes wait to write."""

RETRY_SECONDS = 2.0
"""Pause between attempts to delete records that may be reserved for questions never sent."""


@dataclass(slots=True, eq=False)
class WriteRequest:
    """A record on its way to the database.

    Attributes:
        question: The question.
        outcome: Its outcome; `asking` if the record is only reserved.
        is_in_outbox: A journal has the question and the outcome.
        record_id: The record's id once the database has it, or the error.
    """

    question: Question
    outcome: Outcome
    is_in_outbox: bool = True
    record_id: "Future[int | None]" = field(default_factory=Future)

    @property
    def has_outcome(self) -> bool:
        """True if there is an outcome."""
        return self.outcome.status is not Status.ASKING


class Recorder:
    """Recorder of the questions of any number of threads.

    Args:
        outbox: The directory of the journals.
        store: Returns the history; called in the database thread for the first record.
        sync_outcome: Outcomes, too, survive a power cut before the database has them.
        commit_seconds: Seconds that a record waits for others to share its transaction.
        follows_uid: The uid of the question that all follow up, if that has no record yet.
    """

    def __init__(
        self,
        outbox: Outbox,
        store: "Callable[[], Store]",
        *,
        sync_outcome: bool = False,
        commit_seconds: float = 0.0,
        follows_uid: str | None = None,
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._sync_outcome = sync_outcome
        self._commit_seconds = commit_seconds
        self._follows_uid = follows_uid
        self._journal = JournalWriter(outbox)
        self._queue: list[WriteRequest] = []
        self._changed = threading.Condition()
        self._is_urgent = self._is_ending = False
        self._thread: threading.Thread | None = None
        self._uncertain_uids: list[str] = []

    def begin(self, question: Question, *, reserve: bool) -> int | None:
        """Write a question to a journal; it may be sent once this returns.

        Args:
            question: The question.
            reserve: Also store a record in the state `asking`, and return its id.

        Raises:
            OutboxUnwritable: The journal could not be written.
            DatabaseError: The record could not be stored; its journal entry is deleted.
        """
        line = question_entry(question, self._follows_uid)
        try:
            self._journal.write(JournalEntry(question.uid, (line,), opens=True, sync=True))
            return self._submit(WriteRequest(question, Outcome())).result() if reserve else None
        except BaseException:
            # The question will not be sent.
            self._drop(question.uid)
            raise

    def append(self, uid: str, event: Delta | ReasoningDelta) -> None:
        """Write a piece of text or reasoning to the journal, in case the process is killed.

        A journal that cannot be written does not stop the answer: `finish` reports the error.
        """
        self._journal.enqueue(JournalEntry(uid, (text_entry(uid, event),)))

    def finish(
        self, question: Question, outcome: Outcome
    ) -> tuple[int | None, DatabaseError | None]:
        """Record the outcome; return the record's id, or the error if only the outbox has it.

        Raises:
            DatabaseError: Neither the outbox nor the database could store it.
        """
        lines = (outcome_entry(question.uid, outcome),)
        entry = JournalEntry(question.uid, lines, sync=self._sync_outcome)
        request = self._save(entry, WriteRequest(question, outcome))
        try:
            return request.record_id.result(), None
        except DatabaseError as error:
            if not request.is_in_outbox:
                raise lost_answer_error(error) from error
            return None, error
        except (KeyboardInterrupt, SystemExit) as interrupt:
            if not request.is_in_outbox:
                unknown = DatabaseError("the wait for the database was interrupted.")
                raise lost_answer_error(unknown) from interrupt
            raise

    def save(self, question: Question, outcome: Outcome) -> bool:
        """Record a question together with its outcome, without waiting for the database.

        Returns False if no journal has them, for example because the disk is full; then only the
        database can store them.
        """
        lines = (question_entry(question), outcome_entry(question.uid, outcome))
        entry = JournalEntry(question.uid, lines, opens=True)
        return self._save(entry, WriteRequest(question, outcome)).is_in_outbox

    def flush(self) -> None:
        """Write the queue to the database at once."""
        with self._changed:
            self._is_urgent = bool(self._queue)
            self._changed.notify()

    def close(self) -> None:
        """End the database thread; the outbox keeps what the database does not have."""
        self._end()
        self._journal.close()

    def _end(self) -> None:
        """Make the database thread end once it has written the queue."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()

    def _save(self, entry: JournalEntry, request: WriteRequest) -> WriteRequest:
        try:
            self._journal.write(entry)
        except OutboxUnwritable:  # a full disk: the database may still store it
            request.is_in_outbox = False
        else:
            request.is_in_outbox = entry.is_written
        self._submit(request)
        return request

    def _submit(self, request: WriteRequest) -> "Future[int | None]":
        with self._changed:
            self._queue.append(request)
            self._is_urgent = self._is_urgent or not request.is_in_outbox
            self._changed.notify()
        self._start()
        return request.record_id

    def _start(self) -> None:
        with self._changed:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="qa-database", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (requests := self._next_group()) is not None:
            self._delete_uncertain()
            if not requests:
                continue
            try:
                self._write(requests)
            except DatabaseError:
                raise  # of a batch, which it ends
            except Exception as error:
                # This thread must go on, and no thread may wait for ever.
                LOG.exception("records could not be stored")
                for request in requests:
                    if not request.record_id.done():
                        request.record_id.set_exception(copy(error))

    def _next_group(self) -> list[WriteRequest] | None:
        """Wait for records and return at most `MAX_GROUP`; None means that the thread ends."""
        with self._changed:
            retry = RETRY_SECONDS if self._uncertain_uids else None
            self._changed.wait_for(lambda: self._queue or self._is_ending, retry)
            if self._commit_seconds:
                self._changed.wait_for(self._is_due, self._commit_seconds)
            self._is_urgent = False
            group = self._queue[:MAX_GROUP]
            del self._queue[:MAX_GROUP]
            return None if self._is_ending and not group else group

    def _is_due(self) -> bool:
        return self._is_urgent or self._is_ending or len(self._queue) >= MAX_GROUP

    def _write(self, requests: list[WriteRequest]) -> None:
        try:
            ids = self._commit([(request.question, request.outcome) for request in requests])
        except Exception as error:
            if len(requests) > 1 and not _is_outage(error):
                # The error is about one record; the others can be stored.
                for request in requests:
                    self._write([request])
                return
            if not isinstance(error, DatabaseError):
                LOG.exception("a record could not be stored")
            self._fail(requests, error)
        else:
            self._drop(*(request.question.uid for request in requests if request.has_outcome))
            for request in requests:
                request.record_id.set_result(ids.get(request.question.uid))
            self._on_commit(requests)

    def _commit(self, group: Sequence[tuple[Question, Outcome]]) -> dict[str, int]:
        """Write records in one transaction; return their ids by uid.

        Raises:
            RecordRefused: The database does not accept one of them, and has stored none of them.
            DatabaseError: The database cannot be used.
        """
        store = self._store()
        return store.upsert_many(
            [(with_follows_id(q, self._follows_uid, store), outcome) for q, outcome in group]
        )

    def _on_commit(self, requests: list[WriteRequest]) -> None:
        """Called in the database thread with the requests that were committed."""

    def _fail(self, requests: list[WriteRequest], error: Exception) -> None:
        self.move_to_new_journal([request for request in requests if request.has_outcome])
        if _may_be_committed(error):
            self._uncertain_uids += [r.question.uid for r in requests if not r.has_outcome]
        for request in requests:
            # A new error for each: each caller adds its record to it.
            request.record_id.set_exception(copy(error))

    def move_to_new_journal(self, requests: list[WriteRequest]) -> bool:
        """Move records to a new journal, which any process may deliver.

        Returns False if that journal cannot be written; the records stay in their journal then.
        """
        if not requests:
            return True
        try:
            journal = self._outbox.open()
        except OutboxUnwritable:
            return False
        lines = []
        for request in requests:
            lines.append(question_entry(request.question, self._follows_uid))
            lines.append(outcome_entry(request.question.uid, request.outcome))
        try:
            journal.append(*lines, sync=True)
        except (OSError, ValueError):  # ValueError: text that no file can hold
            journal.discard()
            return False
        journal.close()
        for request in requests:
            request.is_in_outbox = True
        self._drop(*(request.question.uid for request in requests))
        return True

    def _drop(self, *uids: str) -> None:
        """Mark these questions in the journal as delivered."""
        entries = (JournalEntry(uid, (completed_entry(uid),), completes=True) for uid in uids)
        self._journal.enqueue(*entries)

    def _delete_uncertain(self) -> None:
        """Delete records that may be reserved, after a connection broke, for unsent questions."""
        if not self._uncertain_uids:
            return
        try:
            self._store().delete_reserved(self._uncertain_uids)
        except DatabaseError:
            return
        except Exception:
            LOG.exception("reserved records of questions that were not asked could not be deleted")
            return
        self._uncertain_uids.clear()


class SingleRecorder(Recorder):
    """Recorder of one question; it closes, and deletes its journal, with the outcome.

    Args:
        outbox: The directory of the journal.
        store: Returns the history; called when there is a record to store.
        follows_uid: The uid of the question that it follows up, if that has no record yet.
    """

    def __init__(
        self, outbox: Outbox, store: "Callable[[], Store]", follows_uid: str | None = None
    ) -> None:
        super().__init__(outbox, store, sync_outcome=True, follows_uid=follows_uid)

    def begin(self, question: Question, *, reserve: bool) -> int | None:
        """See `Recorder.begin`."""
        try:
            return super().begin(question, reserve=reserve)
        except BaseException:
            self.close()
            raise

    def finish(
        self, question: Question, outcome: Outcome
    ) -> tuple[int | None, DatabaseError | None]:
        """See `Recorder.finish`."""
        try:
            return super().finish(question, outcome)
        finally:
            self.close()


def with_follows_id(question: Question, follows_uid: str | None, store: "Store") -> Question:
    """Return the question with `follows_id` of the record with this uid, if there is one."""
    if follows_uid is None:
        return question
    return replace(question, follows_id=store.id_for_uid(follows_uid))


def lost_answer_error(error: DatabaseError) -> DatabaseError:
    """Return the error for an answer that neither the outbox nor the database could store."""
    return DatabaseError(
        f"The answer could not be stored: the outbox cannot be written, and {error}",
        "Copy the answer from the screen, and make room on the disk.",
    )


def _is_outage(error: Exception) -> bool:
    """Return whether an error is about the database, and not about one of the records."""
    return isinstance(error, DatabaseError) and not isinstance(error, RecordRefused)


def _may_be_committed(error: Exception) -> bool:
    """Return whether a transaction may have been committed although it failed."""
    return bool(getattr(error.__cause__, "connection_invalidated", False))
