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

from qacli.errors import DatabaseError, OutboxUnwritable, RecordRefused
from qacli.exchange import Ask, Outcome, Status
from qacli.keeping import kept_nowhere
from qacli.outbox import Outbox, line_of_ask, line_of_outcome, line_of_settled, line_of_text
from qacli.store import Store
from qacli.store.groups import LARGEST, forget, keep_all
from qacli.turns import TURNS, Gate
from qacli.web.notes import Note, Notes, taken

LOG = logging.getLogger("qa.web")

AGAIN_SECONDS = 2.0
"""How long a database that was away is left alone."""


@dataclass(slots=True, eq=False)
class Job:
    """A record that a request waits for.

    Attributes:
        ask: The question.
        outcome: What is known of its outcome; still `asking` where it is to be reserved.
        record_id: The record's id, once it is kept.
        failure: Why it is not.
    """

    ask: Ask
    outcome: Outcome
    record_id: int | None = None
    failure: Exception | None = None
    _gate: Gate = field(default_factory=Gate)

    @property
    def ended(self) -> bool:
        """Whether there is an outcome."""
        return self.outcome.status is not Status.ASKING

    def wait(self) -> None:
        """Wait until it is done."""
        self._gate.wait()

    def done(self, record_id: int | None = None, failure: Exception | None = None) -> None:
        """Let the request go on."""
        self.record_id, self.failure = record_id, failure
        self._gate.open()


class Keeper:
    """Keeps what any number of threads ask. See `qacli.keeping.Keeping`.

    Args:
        outbox: Where questions are noted, and what the database does not take is left.
        store: The history.
    """

    def __init__(self, outbox: Outbox, store: Store) -> None:
        self._outbox = outbox
        self._store = store
        self._notes = Notes(outbox)
        self._records: SimpleQueue[Job] = SimpleQueue()
        self._doubtful: list[str] = []
        self._starting = threading.Lock()
        self._started = False

    def begin(self, ask: Ask, *, reserve: bool) -> int | None:
        """See `Keeping`."""
        self._start()
        job = Job(ask, Outcome())
        then = partial(self._noted, job, reserve=reserve)
        self._notes.take(Note(ask.uid, line_of_ask(ask), then))
        job.wait()
        if job.failure is not None:
            raise job.failure
        return job.record_id

    def text(self, uid: str, text: str) -> None:
        """See `Keeping`."""
        self._notes.take(Note(uid, line_of_text(uid, text)))

    def end(self, ask: Ask, outcome: Outcome) -> tuple[int | None, DatabaseError | None]:
        """See `Keeping`."""
        job = Job(ask, outcome)
        # A kill leaves the outcome in the journal; a power cut may, until the database has it.
        self._notes.take(Note(ask.uid, line_of_outcome(ask.uid, outcome)))
        self._records.put(job)
        job.wait()
        if job.failure is None:
            return job.record_id, None
        if not isinstance(job.failure, DatabaseError):
            raise job.failure
        if not self._leave(job):
            raise kept_nowhere(job.failure)
        return None, job.failure

    def _start(self) -> None:
        if self._started:
            return
        with self._starting:
            if not self._started:
                for name, run in (("qa-notes", self._notes.run), ("qa-records", self._run)):
                    threading.Thread(target=run, name=name, daemon=True).start()
                self._started = True

    def _noted(self, job: Job, error: OutboxUnwritable | None, *, reserve: bool) -> None:
        """In the thread of the journals: the question is noted."""
        if error is None and reserve:
            self._records.put(job)
            return
        if error is not None:
            self._settle([job])
        job.done(failure=error)

    def _run(self) -> None:
        """Keep records, for ever."""
        while True:
            jobs = taken(self._records, LARGEST, AGAIN_SECONDS if self._doubtful else None)
            self._forget_doubtful()
            if jobs:
                self._keep(jobs)

    def _keep(self, jobs: list[Job]) -> None:
        try:
            ids = keep_all(self._store, [(job.ask, job.outcome) for job in jobs])
        except Exception as error:
            is_away = isinstance(error, DatabaseError) and not isinstance(error, RecordRefused)
            if len(jobs) > 1 and not is_away:
                # It is about one of them; the others have nothing to do with it.
                for job in jobs:
                    self._keep([job])
                return
            if not isinstance(error, DatabaseError):
                LOG.exception("a record could not be kept")
            self._fail(jobs, error)
        else:
            self._settle([job for job in jobs if job.ended])
            for job in jobs:
                job.done(ids[job.ask.uid])

    def _fail(self, jobs: list[Job], error: Exception) -> None:
        reserved = [job for job in jobs if not job.ended]
        if _is_in_doubt(error):
            self._doubtful += [job.ask.uid for job in reserved]
        # They will not be asked.
        self._settle(reserved)
        for job in jobs:
            # One for each: whoever catches it writes into it which record it is about.
            job.done(failure=copy(error))

    def _settle(self, jobs: list[Job]) -> None:
        self._notes.take(*(Note(job.ask.uid, line_of_settled(job.ask.uid)) for job in jobs))

    def _leave(self, job: Job) -> bool:
        """Leave what the database did not take in a journal of its own, for the next delivery."""
        TURNS.give()
        try:
            journal = self._outbox.open()
        except OutboxUnwritable:
            return False
        try:
            lines = line_of_ask(job.ask), line_of_outcome(job.ask.uid, job.outcome)
            journal.append(*lines, sync=True)
            journal.sync_name()
        except OSError:
            journal.discard()
            return False
        journal.close()
        self._settle([job])
        return True

    def _forget_doubtful(self) -> None:
        """Remove what may have been reserved when the connection broke: it was not asked."""
        if not self._doubtful:
            return
        try:
            forget(self._store, self._doubtful)
        except DatabaseError:
            return
        except Exception:
            # Whatever it is, the records that wait come after it.
            LOG.exception("what is in doubt could not be removed")
            return
        self._doubtful.clear()


def _is_in_doubt(error: Exception) -> bool:
    """Whether a transaction may have been committed although it failed."""
    return bool(getattr(error.__cause__, "connection_invalidated", False))
