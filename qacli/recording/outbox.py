"""The outbox: questions and answers that are not yet in the database.

The outbox is a directory of journals. A journal is an append-only file of JSON lines that one
process holds open and locked: the question (on the disk before the request is sent), each piece of
text or reasoning as it arrives, and the outcome. When the database has all of it, the journal is
deleted. The lock ends with the process: the process of a journal that can be locked has ended, and
the next process delivers it. Each question has a uid that is unique in the database, so delivering
a journal twice changes nothing.
"""

import errno
import fcntl
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

from qacli.errors import OutboxUnwritable
from qacli.private_files import make_private_directory
from qacli.recording.journal_format import encode_line
from qacli.recording.journal_reader import Entry, JournalContents, parse_journal

__all__ = ["Entry", "Journal", "OrphanedJournal", "Outbox"]

SUFFIX = ".jsonl"
SET_ASIDE = ".set-aside"
"""The suffix of a journal with parts that the history does not have."""

UNFINISHED = ".new"
"""The suffix of a journal that is not locked yet."""

STALE_SECONDS = 3600.0
"""The age at which an unfinished journal is deleted."""


class Journal:
    """An open journal, locked by this process until it is closed or discarded.

    Raises:
        OutboxUnwritable: The file cannot be created, so that no question may be asked.
    """

    def __init__(self, directory: Path) -> None:
        # Journals are delivered in the order of their names: a follow-up after its predecessor.
        name = f"{time.time_ns():016x}-{uuid4().hex}"
        self._path = directory / (name + SUFFIX)
        self._line_incomplete = self._name_is_synced = False
        unfinished = directory / (name + UNFINISHED)
        try:
            make_private_directory(directory)
            self._file = os.open(
                unfinished, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600
            )
            # Locked before it has a name that other processes look for.
            fcntl.flock(self._file, fcntl.LOCK_EX)
            unfinished.rename(self._path)
        except OSError as error:
            raise outbox_unwritable(directory, error) from error

    def append(self, *lines: dict[str, Any], sync: bool = False) -> None:
        """Write lines, each with its checksum.

        Args:
            lines: Results of the functions in `qacli.recording.journal_format`.
            sync: Wait until the lines would survive a power cut.

        Raises:
            OSError: The lines cannot be written, for example because the disk is full.
        """
        # The line after one that a full disk has cut off must begin on a line of its own.
        start = b"\n" if self._line_incomplete else b""
        data = start + "".join(map(encode_line, lines)).encode()
        view, self._line_incomplete = memoryview(data), True
        while view:
            view = view[os.write(self._file, view) :]
        self._line_incomplete = False
        if sync:
            os.fsync(self._file)
            if not self._name_is_synced:
                _sync_directory(self._path.parent)
                self._name_is_synced = True

    @property
    def exists(self) -> bool:
        """True if the file still has a name; a deleted file could not be recovered."""
        return os.fstat(self._file).st_nlink > 0

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return os.fstat(self._file).st_size

    def clear(self) -> None:
        """Empty the journal, because the database has all of it."""
        os.ftruncate(self._file, 0)
        self._line_incomplete = False

    def discard(self) -> None:
        """Delete the journal, because the database has all of it."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def close(self) -> None:
        """Leave the journal for recovery."""
        os.close(self._file)


class Outbox:
    """The journals of one database."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> Journal:
        """Create a journal, locked by this process."""
        return Journal(self.directory)

    def pending(self) -> list[Entry]:
        """Return the questions of this and all other processes, the oldest first."""
        entries: list[Entry] = []
        for path in self._paths():
            with suppress(OSError):
                entries += _read(path).entries
        return sorted(entries, key=lambda entry: entry.question.created_at)

    def depth(self) -> tuple[int, int]:
        """Return the number of journals that are not empty, and their total size in bytes."""
        sizes = []
        for path in self._paths():
            with suppress(OSError):
                sizes.append(path.stat().st_size)
        return sum(size > 0 for size in sizes), sum(sizes)

    def orphaned(self) -> Iterator["OrphanedJournal"]:
        """Yield the journals whose process has ended, each of them locked until the next."""
        for path in self._paths():
            with _locked(path) as is_locked:
                if is_locked:
                    yield OrphanedJournal(path)
        self._delete_stale()

    def unopenable(self) -> Iterator[tuple["OrphanedJournal", OSError]]:
        """Yield each journal of this user that cannot be opened, with the error."""
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
        """Return the journals that were set aside; see `OrphanedJournal.quarantine`."""
        return self._paths(SET_ASIDE)

    def _paths(self, suffix: str = SUFFIX) -> list[Path]:
        # The outbox of another user, whose history may be read, cannot be listed.
        with suppress(OSError):
            return sorted(path for path in self.directory.iterdir() if path.suffix == suffix)
        return []

    def _delete_stale(self) -> None:
        """Delete journals whose process ended before it could lock and rename them."""
        with suppress(OSError):
            for path in self.directory.iterdir():
                if path.suffix == UNFINISHED and time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()


@dataclass(frozen=True, slots=True)
class OrphanedJournal:
    """The journal of a process that has ended; usable only inside the loop that yields it."""

    path: Path

    @property
    def is_file(self) -> bool:
        """True if it is a regular file, and not a directory, a link or a pipe."""
        return stat.S_ISREG(self.path.lstat().st_mode)

    def read(self) -> JournalContents:
        """Return its contents.

        Raises:
            OSError: The disk cannot read it.
        """
        return _read(self.path)

    def discard(self) -> None:
        """Delete the journal, because the database has all of it.

        Raises:
            OSError: The directory cannot be written.
        """
        self.path.unlink(missing_ok=True)

    def quarantine(self) -> Path:
        """Rename the journal, because the history does not have all of it; return its new path.

        Raises:
            OSError: The directory cannot be written.
        """
        path, number = self.path.with_suffix(SET_ASIDE), 1
        # A broken symbolic link exists, too.
        while os.path.lexists(path):
            number += 1
            path = self.path.with_suffix(f".{number}{SET_ASIDE}")
        return self.path.rename(path)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lock a journal; the value is True if it could be locked and still exists."""
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
    """Open a journal to read it; a link or a pipe, which could block, is refused.

    Raises:
        OSError: The journal cannot be opened, or is not a regular file.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a file")
    return file


def _read(path: Path) -> JournalContents:
    """Return the contents of a journal; a journal that was deleted is empty.

    Raises:
        OSError: The journal cannot be read.
    """
    try:
        with open(_open(path), "rb") as file:
            asked_at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
            return parse_journal(file.read(), asked_at)
    except FileNotFoundError:
        return JournalContents()


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def outbox_unwritable(directory: Path, error: OSError) -> OutboxUnwritable:
    """Return the error for a question that cannot be written to a journal."""
    return OutboxUnwritable(
        f"The outbox {directory} cannot be written: {error.strerror}.",
        "Nothing was asked; make room there, or set QA_DATA_DIR or DATABASE_URL to a "
        "directory that can be written.",
    )
