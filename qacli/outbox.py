"""What has been asked but is not yet in the database.

The outbox is a directory of journals. A journal is an append-only file of JSON lines that one
process holds open and locked: what is being asked (on the disk before the request leaves), each
piece of text as it arrives, and the outcome. When the database has it all, the journal is
deleted. The lock goes with the process, however it ends, so a journal that can be locked is one
whose process left it behind, and whoever finds it delivers it. Entries carry a uid that is
unique in the database, so delivering twice changes nothing.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from qacli.errors import InvalidRequest, OutboxUnwritable
from qacli.exchange import Accepted, Ask, Outcome, Status, fields_of, storable

SUFFIX = ".jsonl"
UNFINISHED = ".new"
STALE_SECONDS = 3600.0

UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
    InvalidRequest,
)
"""What a line of a journal raises that is not as it should be."""


@dataclass(slots=True)
class Entry:
    """One question in a journal, as far as it got.

    Attributes:
        follows_uid: The question that it follows up, where that had no record yet.
    """

    ask: Ask
    follows_uid: str | None = None
    texts: list[str] = field(default_factory=list)
    finished: Outcome | None = None

    def outcome(self) -> Outcome:
        """What became of it; without a recorded outcome its process ended in the middle."""
        if self.finished is not None:
            return self.finished
        return Outcome(
            status=Status.INTERRUPTED,
            answer="".join(self.texts) or None,
            error="interrupted: the process ended before the answer was complete",
        )


class Journal:
    """An open journal, locked by this process until it is closed or discarded.

    Raises:
        OutboxUnwritable: The file cannot be created or written; nothing may be asked then.
    """

    def __init__(self, directory: Path) -> None:
        # What came later is delivered later: a follow-up after what it follows up.
        name = f"{time.time_ns():016x}-{uuid4().hex}"
        self._path = directory / (name + SUFFIX)
        self._cut = False
        unfinished = directory / (name + UNFINISHED)
        try:
            make_private(directory)
            self._file = os.open(
                unfinished, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600
            )
            # Locked before it has the name that others look for.
            fcntl.flock(self._file, fcntl.LOCK_EX)
            unfinished.rename(self._path)
        except OSError as error:
            raise unwritable(directory, error) from error

    def begin(self, ask: Ask, *, follows_uid: str | None = None, sync: bool = True) -> None:
        """Note what is about to be asked.

        Args:
            ask: The question; it may be sent once this returns.
            follows_uid: The question that it follows up, where that has no record yet.
            sync: Whether to wait until it would survive a power cut.

        Raises:
            OutboxUnwritable: It could not be noted.
        """
        try:
            self.append(line_of_ask(ask, follows_uid), sync=sync)
            if sync:
                self.sync_name()
        except OSError as error:
            raise unwritable(self._path.parent, error) from error

    def text(self, uid: str, text: str) -> None:
        """Keep a piece of the answer, so that a killed process leaves what had arrived.

        A full disk does not stop an answer that is already paid for: `finish` will tell.
        """
        with suppress(OSError):
            self._append(line_of_text(uid, text))

    def finish(self, uid: str, outcome: Outcome, *, sync: bool = True) -> None:
        """Keep the outcome.

        Raises:
            OSError: The disk is full, say; then only the database can keep it.
        """
        self.append(line_of_outcome(uid, outcome), sync=sync)

    def append(self, *lines: dict[str, Any], sync: bool = False) -> None:
        """Note many things at once; see the functions that make the lines.

        Args:
            lines: What to note.
            sync: Whether to wait until it would survive a power cut.

        Raises:
            OSError: The disk is full, say.
        """
        self._append(*lines)
        if sync:
            os.fsync(self._file)

    def sync_name(self) -> None:
        """Wait until the journal itself would be found after a power cut.

        Raises:
            OSError: It is not to be had.
        """
        _sync_directory(self._path.parent)

    @property
    def is_there(self) -> bool:
        """Whether the file still has its name: nobody would find one that has been deleted."""
        return os.fstat(self._file).st_nlink > 0

    @property
    def size(self) -> int:
        """How many bytes are in it."""
        return os.fstat(self._file).st_size

    @property
    def name(self) -> str:
        """The file's name in its outbox."""
        return self._path.name

    def settled(self, ask: Ask, outcome: Outcome) -> None:
        """Keep a question together with its outcome, until the next power cut.

        Raises:
            OSError: The disk is full, say; then only the database can keep it.
        """
        self._append(line_of_ask(ask), line_of_outcome(ask.uid, outcome))

    def clear(self) -> None:
        """Empty the journal: the database has all that is in it."""
        os.ftruncate(self._file, 0)
        self._cut = False

    def discard(self) -> None:
        """Delete the journal: the database has all that is in it."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def close(self) -> None:
        """Leave the journal for whoever delivers next."""
        os.close(self._file)

    def _append(self, *lines: dict[str, Any]) -> None:
        # A line that a full disk has cut must not take the next one with it.
        start = b"\n" if self._cut else b""
        texts = (json.dumps(line, ensure_ascii=False, default=_encoded) for line in lines)
        data = start + "".join(text + "\n" for text in texts).encode()
        view, self._cut = memoryview(data), True
        while view:
            view = view[os.write(self._file, view) :]
        self._cut = False


def line_of_ask(ask: Ask, follows_uid: str | None = None) -> dict[str, Any]:
    """What is about to be asked, and the question that it follows up, see `Entry`."""
    line: dict[str, Any] = {"ask": fields_of(ask)}
    if follows_uid is not None:
        line["follows_uid"] = follows_uid
    return {**line, "accepted": True} if isinstance(ask, Accepted) else line


def line_of_text(uid: str, text: str) -> dict[str, Any]:
    """A piece of an answer."""
    return {"uid": uid, "text": text}


def line_of_outcome(uid: str, outcome: Outcome) -> dict[str, Any]:
    """What became of a question."""
    return {"uid": uid, "outcome": fields_of(outcome)}


def line_of_settled(uid: str) -> dict[str, Any]:
    """That there is nothing left to deliver of a question, where others share its journal."""
    return {"uid": uid, "settled": True}


class Outbox:
    """The journals of one database."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> Journal:
        """A new journal, held by this process."""
        return Journal(self.directory)

    def waiting(self) -> list[Entry]:
        """All entries, of this and every other process, oldest first."""
        entries = [entry for path in self._paths() for entry in _read(path)]
        return sorted(entries, key=lambda entry: entry.ask.created_at)

    def depth(self) -> tuple[int, int]:
        """How many journals have something in them, in flight or waiting; and how many bytes."""
        sizes = []
        for path in self._paths():
            with suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return sum(size > 0 for size in sizes), sum(sizes)

    def left_behind(self) -> Iterator["LeftBehind"]:
        """The journals that no living process holds, each locked while the caller has it."""
        for path in self._paths():
            with _locked(path) as held:
                if held:
                    yield LeftBehind(path)
        self._sweep()

    def is_held(self, name: str) -> bool:
        """Whether a living process holds the journal of that name."""
        path = self.directory / name
        with _locked(path) as free:
            return not free and path.exists()

    def _paths(self) -> list[Path]:
        # Somebody else's, beside a history that may be read, is none of ours.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            return sorted(path for path in self.directory.iterdir() if path.suffix == SUFFIX)
        return []

    def _sweep(self) -> None:
        """Remove journals whose process ended before it could even name them."""
        with suppress(OSError):
            for path in self.directory.iterdir():
                if path.suffix == UNFINISHED and time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A journal whose process is gone; valid inside the loop that yields it."""

    path: Path

    def entries(self) -> list[Entry]:
        """What is in it."""
        return _read(self.path)

    def discard(self) -> None:
        """Delete it: the database has all that is in it."""
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Rename it out of the way: the database will never take it, but a person may want it."""
        return self.path.rename(self.path.with_suffix(".refused"))


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the journal could be locked, and is still there."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
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


def _read(path: Path) -> list[Entry]:
    entries: dict[str, Entry] = {}
    try:
        data = path.read_bytes()
    except (FileNotFoundError, PermissionError):
        return []
    # What follows the last line end was cut off in the middle of a write.
    for raw in data.split(b"\n")[:-1]:
        # A power cut can leave a block of zeros, another version of qa a line of another shape:
        # what is readable is delivered all the same.
        with suppress(*UNREADABLE):
            _take_in(json.loads(raw), entries)
    return list(entries.values())


def _take_in(line: dict[str, Any], entries: dict[str, Entry]) -> None:
    if "ask" in line:
        kind = Accepted if line.get("accepted") else Ask
        ask = kind(**_dated(line["ask"], "created_at"))
        entries[ask.uid] = Entry(ask, line.get("follows_uid"))
        return
    entry = entries[line["uid"]]
    if "settled" in line:
        del entries[line["uid"]]
    elif "text" in line:
        entry.texts.append(str(line["text"]))
    else:
        outcome = _dated(line["outcome"], "answered_at")
        outcome = {k: storable(v) if isinstance(v, str) else v for k, v in outcome.items()}
        entry.finished = Outcome(**{**outcome, "status": Status(outcome["status"])})


def _dated(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return {**fields, name: datetime.fromisoformat(value)} if value else fields


def _encoded(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a journal")


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for its owner alone."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(exist_ok=True)


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def unwritable(directory: Path, error: OSError) -> OutboxUnwritable:
    """What a question is refused with that cannot be noted."""
    return OutboxUnwritable(
        f"The outbox {directory} cannot be written: {error.strerror}.",
        "Nothing was asked; make room there, or set QA_DATA_DIR or DATABASE_URL to a place that "
        "can be written.",
    )
