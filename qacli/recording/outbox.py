"""The outbox: questions and answers that are not yet in the database.

The outbox is a directory of journals. A journal is an append-only file of JSON lines that one
process holds open and locked: what is being asked (on the disk before the request leaves), each
piece of text as it arrives, and the outcome. When the database has it all, the journal is
deleted. The lock ends with the process, so a journal that can be locked is one whose process has
ended, and the next process delivers it. Entries carry a uid that is
unique in the database, so delivering twice changes nothing.
"""

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from qacli.domain import DeferredQuestion, Outcome, Question
from qacli.errors import OutboxUnwritable
from qacli.private_files import make_private_directory
from qacli.recording.journal_reader import Entry, JournalContents, parse_journal, with_checksum
from qacli.serializers import field_values

__all__ = ["Entry", "Journal", "OrphanedJournal", "Outbox"]

SUFFIX = ".jsonl"
SET_ASIDE = ".set-aside"
"""The suffix of a journal with parts that the history does not have."""

UNFINISHED = ".new"
STALE_SECONDS = 3600.0


class Journal:
    """An open journal, locked by this process until it is closed or discarded.

    Raises:
        OutboxUnwritable: The file cannot be created or written; nothing may be asked then.
    """

    def __init__(self, directory: Path) -> None:
        # What came later is delivered later: a follow-up after what it follows up.
        name = f"{time.time_ns():016x}-{uuid4().hex}"
        self._path = directory / (name + SUFFIX)
        self._line_incomplete = self._name_is_synced = False
        unfinished = directory / (name + UNFINISHED)
        try:
            make_private_directory(directory)
            self._file = os.open(
                unfinished, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600
            )
            # Locked before it has the name that others look for.
            fcntl.flock(self._file, fcntl.LOCK_EX)
            unfinished.rename(self._path)
        except OSError as error:
            raise outbox_unwritable(directory, error) from error

    def begin(self, ask: Question, *, follows_uid: str | None = None, sync: bool = True) -> None:
        """Keep a question that is about to be asked.

        Args:
            ask: The question; it may be sent once this returns.
            follows_uid: The question that it follows up, where that has no record yet.
            sync: Whether to wait until it would survive a power cut.

        Raises:
            OutboxUnwritable: It could not be written.
        """
        try:
            self.append(question_entry(ask, follows_uid), sync=sync)
        except OSError as error:
            raise outbox_unwritable(self._path.parent, error) from error

    def append_text(self, uid: str, text: str) -> None:
        """Keep a piece of the answer, so that a killed process leaves what had arrived.

        A full disk does not stop an answer that is already paid for: `finish` reports it.
        """
        with suppress(OSError):
            self._append(text_entry(uid, text))

    def finish(self, uid: str, outcome: Outcome, *, sync: bool = True) -> None:
        """Keep the outcome.

        Raises:
            OSError: The disk is full, say; then only the database can keep it.
        """
        self.append(outcome_entry(uid, outcome), sync=sync)

    def append(self, *lines: dict[str, Any], sync: bool = False) -> None:
        """Write lines in one piece; see the functions that make them.

        Args:
            lines: The lines.
            sync: Whether to wait until it would survive a power cut.

        Raises:
            OSError: The disk is full, say.
        """
        self._append(*lines)
        if sync:
            os.fsync(self._file)
            if not self._name_is_synced:
                _sync_directory(self._path.parent)
                self._name_is_synced = True

    @property
    def exists(self) -> bool:
        """Whether the file still has its name: a deleted one could not be recovered."""
        return os.fstat(self._file).st_nlink > 0

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return os.fstat(self._file).st_size

    @property
    def name(self) -> str:
        """The file's name in its outbox."""
        return self._path.name

    def append_completed(self, ask: Question, outcome: Outcome) -> None:
        """Keep a question together with its outcome, until the next power cut.

        Raises:
            OSError: The disk is full, say; then only the database can keep it.
        """
        self._append(question_entry(ask), outcome_entry(ask.uid, outcome))

    def clear(self) -> None:
        """Empty the journal: the database has all that is in it."""
        os.ftruncate(self._file, 0)
        self._line_incomplete = False

    def discard(self) -> None:
        """Delete the journal: the database has all that is in it."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def close(self) -> None:
        """Leave the journal for recovery."""
        os.close(self._file)

    def _append(self, *lines: dict[str, Any]) -> None:
        # A line that a full disk has cut must not take the next one with it.
        start = b"\n" if self._line_incomplete else b""
        texts = (json.dumps(line, ensure_ascii=False, default=_encode_value) for line in lines)
        data = start + "".join(with_checksum(text) + "\n" for text in texts).encode()
        view, self._line_incomplete = memoryview(data), True
        while view:
            view = view[os.write(self._file, view) :]
        self._line_incomplete = False


def question_entry(ask: Question, follows_uid: str | None = None) -> dict[str, Any]:
    """Return the line of a question, with the uid of the question it follows up, see `Entry`."""
    line: dict[str, Any] = {"ask": field_values(ask)}
    if follows_uid is not None:
        line["follows_uid"] = follows_uid
    return {**line, "accepted": True} if isinstance(ask, DeferredQuestion) else line


def text_entry(uid: str, text: str) -> dict[str, Any]:
    """Return the line of a piece of an answer."""
    return {"uid": uid, "text": text}


def outcome_entry(uid: str, outcome: Outcome) -> dict[str, Any]:
    """Return the line of a question's outcome."""
    return {"uid": uid, "outcome": field_values(outcome)}


def completed_entry(uid: str) -> dict[str, Any]:
    """Return the line that marks a question as delivered, where others share its journal."""
    return {"uid": uid, "settled": True}


class Outbox:
    """The journals of one database."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> Journal:
        """Create a journal, locked by this process."""
        return Journal(self.directory)

    def pending(self) -> list[Entry]:
        """Return all entries, of this and every other process, oldest first."""
        entries: list[Entry] = []
        for path in self._paths():
            with suppress(OSError):
                entries += _read(path).entries
        return sorted(entries, key=lambda entry: entry.ask.created_at)

    def depth(self) -> tuple[int, int]:
        """Return the number of journals that are not empty, and their bytes in all."""
        sizes = []
        for path in self._paths():
            with suppress(OSError):
                sizes.append(path.stat().st_size)
        return sum(size > 0 for size in sizes), sum(sizes)

    def orphaned(self) -> Iterator["OrphanedJournal"]:
        """Yield the journals whose process has ended, each locked while the caller has it."""
        for path in self._paths():
            with _locked(path) as held:
                if held:
                    yield OrphanedJournal(path)
        self._sweep()

    def unopenable(self) -> Iterator[tuple["OrphanedJournal", OSError]]:
        """Return each journal that cannot be opened, and why, if it belongs to this user."""
        for path in self._paths():
            try:
                os.close(_open(path))
            except FileNotFoundError:
                continue
            except OSError as error:
                with suppress(OSError):
                    if path.lstat().st_uid == os.geteuid():
                        yield OrphanedJournal(path), error

    def set_aside(self) -> list[Path]:
        """Return the journals that were set aside, see `OrphanedJournal.set_aside`."""
        return self._paths(SET_ASIDE)

    def is_held(self, name: str) -> bool:
        """Whether a living process holds the journal of that name."""
        path = self.directory / name
        with _locked(path) as free:
            return not free and path.exists()

    def _paths(self, suffix: str = SUFFIX) -> list[Path]:
        # Another user's outbox, beside a history that may be read, cannot be listed.
        with suppress(OSError):
            return sorted(path for path in self.directory.iterdir() if path.suffix == suffix)
        return []

    def _sweep(self) -> None:
        """Remove journals whose process ended before it could even name them."""
        with suppress(OSError):
            for path in self.directory.iterdir():
                if path.suffix == UNFINISHED and time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()


@dataclass(frozen=True, slots=True)
class OrphanedJournal:
    """A journal whose process is gone; valid inside the loop that yields it."""

    path: Path

    @property
    def is_file(self) -> bool:
        """Whether it is a file: a directory, a link or a pipe of that name is no journal."""
        return stat.S_ISREG(self.path.lstat().st_mode)

    def read(self) -> JournalContents:
        """Return its contents.

        Raises:
            OSError: The disk cannot read it.
        """
        return _read(self.path)

    def entries(self) -> list[Entry]:
        """Return the questions in it; see `read`."""
        return self.read().entries

    def discard(self) -> None:
        """Delete it: the database has all that is in it.

        Raises:
            OSError: The directory cannot be written.
        """
        self.path.unlink(missing_ok=True)

    def quarantine(self) -> Path:
        """Rename it: the history does not have all that is in it, and a person may want it.

        Raises:
            OSError: The directory cannot be written.
        """
        path, number = self.path.with_suffix(SET_ASIDE), 1
        # A link that leads nowhere is there, too.
        while os.path.lexists(path):
            number += 1
            path = self.path.with_suffix(f".{number}{SET_ASIDE}")
        return self.path.rename(path)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the journal could be locked, and is still there."""
    try:
        file = _open(path)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            # Another process may have delivered and deleted it between the open and the lock.
            yield os.fstat(file).st_nlink > 0
    finally:
        os.close(file)


def _open(path: Path) -> int:
    """Open a journal to read it; never a link, and never something that would block.

    Raises:
        OSError: It cannot be opened, or is no file.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no file")
    return file


def _read(path: Path) -> JournalContents:
    """Return what is in a journal; nothing where it is gone.

    Raises:
        OSError: It cannot be read.
    """
    try:
        with open(_open(path), "rb") as file:
            asked_at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
            return parse_journal(file.read(), asked_at)
    except FileNotFoundError:
        return JournalContents()


def _encode_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a journal")


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def outbox_unwritable(directory: Path, error: OSError) -> OutboxUnwritable:
    """Return the error of a question that no journal can keep."""
    return OutboxUnwritable(
        f"The outbox {directory} cannot be written: {error.strerror}.",
        "Nothing was asked; make room there, or set QA_DATA_DIR or DATABASE_URL to a place that "
        "can be written.",
    )
