"""The journals that all questions of one process share, written by the threads that ask.

Each thread adds its entry to a queue and takes a lock. The thread that gets the lock writes all
that is queued, with one fsync for all of it, so a thousand questions at once cost little more
than one; the others find their entry written. New questions go to one journal. An older one stays
until each of its questions is completed: an entry in the journal says so. A journal without an
open question is emptied, or deleted where a newer one has taken its place.
"""

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from qacli.errors import OutboxUnwritable
from qacli.recording.outbox import Journal, Outbox, outbox_unwritable

LOG = logging.getLogger("qa.web")

MAX_JOURNAL_BYTES = 1024 * 1024
"""The size at which the next question goes to a new journal."""


@dataclass(slots=True, eq=False)
class JournalEntry:
    """Lines for the journal of one question.

    Attributes:
        uid: The question's.
        lines: See `qacli.recording.outbox`.
        opens: Whether the lines are the first of their question.
        completes: Whether nothing is left to deliver of the question.
        sync: Whether to wait until the lines would survive a power cut.
        is_written: Whether the journal has the lines.
        error: The reason why it has not.
    """

    uid: str
    lines: tuple[dict[str, Any], ...]
    opens: bool = False
    completes: bool = False
    sync: bool = False
    is_written: bool = False
    error: OutboxUnwritable | None = None


class JournalWriter:
    """Write the entries of any number of threads.

    Args:
        outbox: Where the journals are.
        max_bytes: The size at which a new journal is begun.
    """

    def __init__(self, outbox: Outbox, max_bytes: int = MAX_JOURNAL_BYTES) -> None:
        self._outbox = outbox
        self._max_bytes = max_bytes
        self._queue: deque[JournalEntry] = deque()
        self._lock = threading.Lock()
        self._current: Journal | None = None
        self._journals: dict[str, Journal] = {}
        self._open_questions: dict[Journal, int] = {}

    def write(self, entry: JournalEntry) -> None:
        """Write an entry, with all that other threads have queued.

        Raises:
            OutboxUnwritable: It could not be written.
        """
        self._queue.append(entry)
        with self._lock:
            if not entry.is_written and entry.error is None:
                self._write_queue()
        self._write_unsynced()
        if entry.error is not None:
            raise entry.error

    def enqueue(self, *entries: JournalEntry) -> None:
        """Write entries without an fsync; where another thread is writing, it writes these too."""
        self._queue.extend(entries)
        self._write_unsynced()

    def close(self) -> None:
        """Delete the journals without an open question; leave the others for recovery."""
        with self._lock:
            for journal, count in self._open_questions.items():
                journal.close() if count else journal.discard()
            self._current = None
            self._journals.clear()
            self._open_questions.clear()

    def _write_unsynced(self) -> None:
        """Write what is queued, unless another thread does, or is about to, and waits for it."""
        while self._queue and self._lock.acquire(blocking=False):
            try:
                if any(entry.sync for entry in list(self._queue)):
                    return
                self._write_queue()
            finally:
                self._lock.release()

    def _write_queue(self) -> None:
        """Write all that is queued; the caller has the lock."""
        entries = []
        while self._queue:
            entries.append(self._queue.popleft())
        reason = "the write was interrupted"
        try:
            self._write_entries(entries)
        except Exception as error:
            LOG.exception("%s entries of a journal could not be written", len(entries))
            reason = str(error)
        finally:
            # No thread may wait for ever, or take its entry for written.
            self._fail([e for e in entries if not e.is_written], OSError(0, reason))

    def _write_entries(self, entries: list[JournalEntry]) -> None:
        self._rotate()
        groups: dict[Journal, list[JournalEntry]] = {}
        for entry in entries:
            journal = self._journal_of(entry)
            if journal is not None:
                groups.setdefault(journal, []).append(entry)
        for journal, group in groups.items():
            # What is completed at once need not be written.
            if self._open_questions[journal]:
                self._append(journal, group)
            if not self._open_questions[journal]:
                self._empty(journal)

    def _append(self, journal: Journal, group: list[JournalEntry]) -> None:
        lines = [line for entry in group for line in entry.lines]
        try:
            journal.append(*lines, sync=any(entry.sync for entry in group))
        except OSError as error:
            self._fail(group, error)
        else:
            for entry in group:
                entry.is_written = True

    def _fail(self, entries: list[JournalEntry], error: OSError) -> None:
        for entry in entries:
            entry.error = entry.error or outbox_unwritable(self._outbox.directory, error)
            if entry.opens and (journal := self._journals.pop(entry.uid, None)) is not None:
                self._open_questions[journal] -= 1

    def _journal_of(self, entry: JournalEntry) -> Journal | None:
        """Return the journal that an entry goes to, or None where there is none."""
        if entry.completes:
            journal = self._journals.pop(entry.uid, None)
            if journal is not None:
                self._open_questions[journal] -= 1
            return journal
        if not entry.opens:
            return self._journals.get(entry.uid)
        try:
            journal = self._current_journal()
        except OutboxUnwritable as error:
            # A new error for each entry: each caller writes into it which record it is about.
            entry.error = type(error)(error.what, error.todo)
            return None
        self._journals[entry.uid] = journal
        self._open_questions[journal] += 1
        return journal

    def _current_journal(self) -> Journal:
        if self._current is None:
            self._current = self._outbox.open()
            self._open_questions[self._current] = 0
        return self._current

    def _rotate(self) -> None:
        """Begin a new journal with the next question where this one is full, or was deleted."""
        journal = self._current
        if journal is None or (journal.exists and journal.size < self._max_bytes):
            return
        self._current = None
        if not self._open_questions[journal]:
            self._empty(journal)

    def _empty(self, journal: Journal) -> None:
        if journal is self._current:
            journal.clear()
        else:
            del self._open_questions[journal]
            journal.discard()
