"""Keeps what all requests of one worker ask, in groups: a thousand cost little more than one.

One thread owns the journals and one writes to the database. A request waits twice: until its
question is noted and has a record, and until its outcome is kept. Whatever comes while either
thread is busy goes together into the next fsync and the next transaction.
"""

import logging
import threading
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

from qacli.db.bulk import MAX_GROUP, delete_reserved, upsert_many
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.errors import DatabaseError, OutboxUnwritable, RecordRefused
from qacli.recording.journal_writer import JournalEntry, JournalWriter, drain
from qacli.recording.outbox import (
    Outbox,
    completed_entry,
    outcome_entry,
    question_entry,
    text_entry,
)
from qacli.recording.recorder import lost_answer_error

LOG = logging.getLogger("qa.web")

RETRY_SECONDS = 2.0
"""How long a database that was away is left alone."""


@dataclass(slots=True, eq=False)
class WriteRequest:
    """A record that a request waits for.

    Attributes:
        ask: The question.
        outcome: What is known of its outcome; still `asking` where it is to be reserved.
        record_id: The record's id, once it is kept.
        failure: Why it is not.
    """

    ask: Question
    outcome: Outcome
    record_id: int | None = None
    error: Exception | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def has_outcome(self) -> bool:
        """Whether there is an outcome."""
        return self.outcome.status is not Status.ASKING

    def wait(self) -> None:
        """Wait until it is done."""
        self._done.wait()

    def complete(self, record_id: int | None = None, failure: Exception | None = None) -> None:
        """Let the request go on."""
        self.record_id, self.error = record_id, failure
        self._done.set()


class GroupCommitRecorder:
    """Keeps what any number of threads ask. See `qacli.recording.recorder.Recorder`.

    Args:
        outbox: Where questions are noted, and what the database does not take is left.
        store: The history.
    """

    def __init__(self, outbox: Outbox, store: Store) -> None:
        self._outbox = outbox
        self._store = store
        self._journal = JournalWriter(outbox)
        self._queue: SimpleQueue[WriteRequest] = SimpleQueue()
        self._uncertain_uids: list[str] = []
        self._starting = threading.Lock()
        self._started = False

    def begin(self, ask: Question, *, reserve: bool) -> int | None:
        """See `Recorder`."""
        self._start()
        job = WriteRequest(ask, Outcome())
        then = partial(self._on_journaled, job, reserve=reserve)
        self._journal.enqueue(JournalEntry(ask.uid, question_entry(ask), then))
        job.wait()
        if job.error is not None:
            raise job.error
        return job.record_id

    def append_text(self, uid: str, text: str) -> None:
        """See `Recorder`."""
        self._journal.enqueue(JournalEntry(uid, text_entry(uid, text)))

    def finish(self, ask: Question, outcome: Outcome) -> tuple[int | None, DatabaseError | None]:
        """See `Recorder`."""
        job = WriteRequest(ask, outcome)
        # A kill leaves the outcome in the journal; a power cut may, until the database has it.
        self._journal.enqueue(JournalEntry(ask.uid, outcome_entry(ask.uid, outcome)))
        self._queue.put(job)
        job.wait()
        if job.error is None:
            return job.record_id, None
        if not isinstance(job.error, DatabaseError):
            raise job.error
        if not self._save_to_own_journal(job):
            raise lost_answer_error(job.error)
        return None, job.error

    def _start(self) -> None:
        if self._started:
            return
        with self._starting:
            if not self._started:
                for name, run in (
                    ("qa-notes", self._journal.run),
                    ("qa-records", self._write_loop),
                ):
                    threading.Thread(target=run, name=name, daemon=True).start()
                self._started = True

    def _on_journaled(
        self, job: WriteRequest, error: OutboxUnwritable | None, *, reserve: bool
    ) -> None:
        """In the thread of the journals: the question is noted."""
        if error is None and reserve:
            self._queue.put(job)
            return
        if error is not None:
            self._mark_completed([job])
        job.complete(failure=error)

    def _write_loop(self) -> None:
        """Keep records, for ever."""
        while True:
            jobs = drain(self._queue, MAX_GROUP, RETRY_SECONDS if self._uncertain_uids else None)
            self._delete_uncertain()
            if jobs:
                self._write(jobs)

    def _write(self, jobs: list[WriteRequest]) -> None:
        try:
            ids = upsert_many(self._store, [(job.ask, job.outcome) for job in jobs])
        except Exception as error:
            is_away = isinstance(error, DatabaseError) and not isinstance(error, RecordRefused)
            if len(jobs) > 1 and not is_away:
                # It is about one of them; the others have nothing to do with it.
                for job in jobs:
                    self._write([job])
                return
            if not isinstance(error, DatabaseError):
                LOG.exception("a record could not be kept")
            self._fail(jobs, error)
        else:
            self._mark_completed([job for job in jobs if job.has_outcome])
            for job in jobs:
                job.complete(ids[job.ask.uid])

    def _fail(self, jobs: list[WriteRequest], error: Exception) -> None:
        reserved = [job for job in jobs if not job.has_outcome]
        if _may_be_committed(error):
            self._uncertain_uids += [job.ask.uid for job in reserved]
        # They will not be asked.
        self._mark_completed(reserved)
        for job in jobs:
            # One for each: whoever catches it writes into it which record it is about.
            job.complete(failure=copy(error))

    def _mark_completed(self, jobs: list[WriteRequest]) -> None:
        self._journal.enqueue(
            *(JournalEntry(job.ask.uid, completed_entry(job.ask.uid)) for job in jobs)
        )

    def _save_to_own_journal(self, job: WriteRequest) -> bool:
        """Leave what the database did not take in a journal of its own, for the next delivery."""
        try:
            journal = self._outbox.open()
        except OutboxUnwritable:
            return False
        try:
            lines = question_entry(job.ask), outcome_entry(job.ask.uid, job.outcome)
            journal.append(*lines, sync=True)
            journal.sync_name()
        except OSError:
            journal.discard()
            return False
        journal.close()
        self._mark_completed([job])
        return True

    def _delete_uncertain(self) -> None:
        """Remove what may have been reserved when the connection broke: it was not asked."""
        if not self._uncertain_uids:
            return
        try:
            delete_reserved(self._store, self._uncertain_uids)
        except DatabaseError:
            return
        except Exception:
            # Whatever it is, the records that wait come after it.
            LOG.exception("what is in doubt could not be removed")
            return
        self._uncertain_uids.clear()


def _may_be_committed(error: Exception) -> bool:
    """Whether a transaction may have been committed although it failed."""
    return bool(getattr(error.__cause__, "connection_invalidated", False))
