"""The journals that all requests of one worker share, and the thread that owns them.

There is one that takes new questions, and perhaps older ones that still have some in flight. What
comes while the thread writes is then written all at once, with one fsync for all of it. A line
says of each question that is settled that it is; a journal that has none left in flight is
emptied, or goes where another has taken its place.
"""

import logging
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from qacli.errors import OutboxUnwritable
from qacli.recording.outbox import Journal, Outbox, outbox_unwritable

LOG = logging.getLogger("qa.web")
T = TypeVar("T")

MAX_JOURNAL_BYTES = 1024 * 1024
"""What a journal may hold: what is settled stays on the disk until it goes."""


@dataclass(slots=True, eq=False)
class JournalEntry:
    """A line for the journal.

    Attributes:
        uid: The question's.
        line: See `qacli.recording.outbox`; an `ask` opens the question, `settled` closes it.
        then: Called once an `ask` would survive a power cut, or with why it could not be noted.
    """

    uid: str
    line: dict[str, Any]
    on_synced: Callable[[OutboxUnwritable | None], None] | None = None


class JournalWriter:
    """Takes notes from any number of threads.

    Args:
        outbox: Where the journals are.
        full: How many bytes one may hold before the next takes its place.
    """

    def __init__(self, outbox: Outbox, full: int = MAX_JOURNAL_BYTES) -> None:
        self._outbox = outbox
        self._full = full
        self._queue: SimpleQueue[JournalEntry] = SimpleQueue()
        self._current: Journal | None = None
        self._journals: dict[str, Journal] = {}
        self._in_flight: dict[Journal, int] = {}

    def enqueue(self, *notes: JournalEntry) -> None:
        """Take notes; does not wait."""
        for note in notes:
            self._queue.put(note)

    def run(self) -> None:
        """Write what there is to write, for ever."""
        while True:
            notes = drain(self._queue)
            try:
                self._write(notes)
            except Exception as error:
                LOG.exception("%s notes could not be taken", len(notes))
                # Nobody may wait for ever.
                for note in notes:
                    self._notify(
                        note, outbox_unwritable(self._outbox.directory, OSError(0, str(error)))
                    )

    def _write(self, notes: list[JournalEntry]) -> None:
        self._rotate()
        groups: dict[Journal, list[JournalEntry]] = {}
        for note in notes:
            journal = self._journal_of(note)
            if journal is not None:
                groups.setdefault(journal, []).append(note)
        for journal, group in groups.items():
            if self._in_flight[journal]:
                self._append(journal, group)
            elif journal is self._current:
                journal.clear()
            else:
                del self._in_flight[journal]
                journal.discard()

    def _append(self, journal: Journal, group: list[JournalEntry]) -> None:
        begun = [note for note in group if note.on_synced is not None]
        try:
            journal.append(*(note.line for note in group), sync=bool(begun))
        except OSError as error:
            for note in begun:
                self._in_flight[self._journals.pop(note.uid)] -= 1
                self._notify(note, outbox_unwritable(self._outbox.directory, error))
        else:
            for note in begun:
                self._notify(note)

    def _journal_of(self, note: JournalEntry) -> Journal | None:
        """Which journal a note goes to; None where it goes to none."""
        if "settled" in note.line:
            journal = self._journals.pop(note.uid, None)
            if journal is not None:
                self._in_flight[journal] -= 1
            return journal
        if "ask" not in note.line:
            return self._journals.get(note.uid)
        try:
            journal = self._current_journal()
        except OutboxUnwritable as error:
            self._notify(note, error)
            return None
        self._journals[note.uid] = journal
        self._in_flight[journal] += 1
        return journal

    def _current_journal(self) -> Journal:
        if self._current is None:
            journal = self._outbox.open()
            try:
                journal.sync_name()
            except OSError as error:
                journal.discard()
                raise outbox_unwritable(self._outbox.directory, error) from error
            self._in_flight[journal] = 0
            self._current = journal
        return self._current

    def _rotate(self) -> None:
        """Let the next question go to a new journal; also where somebody has deleted this one."""
        journal = self._current
        if journal is None or (journal.exists and journal.size < self._full):
            return
        self._current = None
        if not self._in_flight[journal]:
            del self._in_flight[journal]
            journal.discard()

    @staticmethod
    def _notify(note: JournalEntry, error: OutboxUnwritable | None = None) -> None:
        then, note.on_synced = note.on_synced, None
        if then is not None:
            # One error for each: whoever catches it writes into it which record it is about.
            then(copy(error))


def drain(queue: SimpleQueue[T], most: int = 10_000, timeout: float | None = None) -> list[T]:
    """What is in a queue that one thread reads; waits for the first of it.

    Args:
        queue: The queue.
        most: How much to take.
        timeout: Seconds to wait; then there is nothing.
    """
    try:
        found = [queue.get(timeout=timeout)]
    except Empty:
        return []
    while len(found) < most and not queue.empty():
        found.append(queue.get_nowait())
    return found
