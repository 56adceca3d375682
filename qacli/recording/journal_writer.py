"""Write the journals that all questions of one process share, from any number of threads.

Each thread adds its entry to a queue and takes a lock. The thread that gets the lock writes the
whole queue with one fsync, so that a thousand questions at once cost little more than one; the
other threads find their entries written. New questions go to the current journal. An older journal
stays open until it has a completed entry for each of its questions. A journal without an open
question is emptied if it is the current one, and deleted otherwise.
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
        uid: The question's uid.
        lines: The lines; see `qacli.recording.outbox`.
        opens: The lines are the first of their question.
        completes: The database has the question: nothing is left to deliver.
        sync: Wait until the lines would survive a power cut.
        is_written: The journal has the lines.
        error: The reason why the lines could not be written.
    """

    uid: str
    lines: tuple[dict[str, Any], ...]
    opens: bool = False
    completes: bool = False
    sync: bool = False
    is_written: bool = False
    error: OutboxUnwritable | None = None


class JournalWriter:
    """A writer of journal entries for any number of threads.

    Args:
        outbox: The directory of the journals.
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
        """Write an entry, together with the entries that other threads have queued.

        Raises:
            OutboxUnwritable: The entry could not be written.
        """
        self._queue.append(entry)
        with self._lock:
            if not entry.is_written and entry.error is None:
                self._write_queue()
        self._write_unsynced()
        if entry.error is not None:
            raise entry.error

    def enqueue(self, *entries: JournalEntry) -> None:
        """Write entries without an fsync; a thread that is already writing writes these too."""
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
        """Write the queue, unless another thread is writing it or waits to sync an entry of it."""
        while self._queue and self._lock.acquire(blocking=False):
            try:
                if any(entry.sync for entry in list(self._queue)):
                    return
                self._write_queue()
            finally:
                self._lock.release()

    def _write_queue(self) -> None:
        """Write the whole queue; the caller holds the lock."""
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
            # Each entry must be written or have an error, or its thread would not know the result.
            self._fail([e for e in entries if not e.is_written], OSError(0, reason))

    def _write_entries(self, entries: list[JournalEntry]) -> None:
        self._rotate()
        groups: dict[Journal, list[JournalEntry]] = {}
        for entry in entries:
            journal = self._journal_of(entry)
            if journal is not None:
                groups.setdefault(journal, []).append(entry)
        for journal, group in groups.items():
            # If all questions of the journal are completed, it is emptied instead.
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
        """Return the journal of an entry; None if it has none, or a new one cannot be opened."""
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
            # A new error for each entry: each caller adds its record to it.
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
        """Make the next question begin a new journal if this one is full or was deleted."""
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
