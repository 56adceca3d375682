"""Decide when another worker of a batch has ended, and for how long this one may send.

Each worker renews a lease in the database and holds a lock file in its outbox. Its claims are
taken over when the lease is over by the database's clock, or earlier when the lock file proves
that the process has ended: the same outbox, the same boot of the same kernel, the same file by
device and inode, and the lock is free. Names prove nothing: two containers of one image share the
host name, every path, and even a copied data directory. A lock file that is missing proves
nothing either: it may be on another machine.
"""

import fcntl
import os
import sys
import time
from collections.abc import Container
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

from qacli.db.batches import LEASE_SECONDS
from qacli.errors import OutboxUnwritable
from qacli.private_files import make_private_directory
from qacli.recording.outbox import outbox_unwritable

SUFFIX = ".worker"
MARGIN_SECONDS = 10.0
"""By how much earlier a worker stops sending than another may take its claims."""

STALE_SECONDS = 3600.0


def uptime() -> float:
    """Return seconds of a clock that never goes back and also counts while the machine sleeps."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """The time until which this worker may rely on its claims; it begins as already over."""

    def __init__(self) -> None:
        self._valid_until = -1.0

    def renew(self, sent_at: float) -> None:
        """Prolong the lease from the time, by `uptime`, at which the renewal was sent."""
        self._valid_until = sent_at + LEASE_SECONDS - MARGIN_SECONDS

    @property
    def is_valid(self) -> bool:
        """Whether no other worker can have taken the claims by now."""
        return uptime() < self._valid_until


class WorkerLock:
    """A file that is locked for as long as this process lives.

    Args:
        outbox: The directory of the outbox.
        worker: The worker's id.

    Attributes:
        name: The file's name in the outbox.
        host: Where the file is: outbox, boot, device and inode.

    Raises:
        OutboxUnwritable: The file cannot be created.
    """

    def __init__(self, outbox: Path, worker: str) -> None:
        self.name = worker + SUFFIX
        self._path = outbox / self.name
        try:
            make_private_directory(outbox)
            self._file = os.open(
                self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            raise outbox_unwritable(outbox, error) from error
        self.host = _host(outbox, os.fstat(self._file))

    def close(self, *, left: bool) -> None:
        """Release the lock; the file is removed where the worker has left the batch."""
        if left:
            self._path.unlink(missing_ok=True)
        os.close(self._file)


def is_proven_dead(outbox: Path, host: str, name: str) -> bool:
    """Return whether a lock file in this outbox proves that its process has ended.

    Args:
        outbox: The directory of this process's outbox.
        host: `WorkerLock.host` of the other worker.
        name: `WorkerLock.name` of the other worker.
    """
    if not name.endswith(SUFFIX):
        return False
    try:
        file = os.open(outbox / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if host != _host(outbox, os.fstat(file)):
            return False
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, OutboxUnwritable):
        return False
    else:
        return True
    finally:
        os.close(file)


def remove_lock(outbox: Path, name: str) -> None:
    """Remove the lock file of a worker whose claims have been given back."""
    if name.endswith(SUFFIX):
        with suppress(OSError):
            (outbox / name).unlink(missing_ok=True)


def remove_stale_locks(outbox: Path, known: Container[str]) -> None:
    """Remove old lock files of processes that have ended and that the database does not know.

    Args:
        outbox: The directory of the outbox.
        known: The names of the lock files of all workers in the database.
    """
    with suppress(OSError):
        for path in outbox.iterdir():
            if path.suffix != SUFFIX or path.name in known:
                continue
            if time.time() - path.stat().st_mtime < STALE_SECONDS:
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def outbox_id(outbox: Path) -> str:
    """Return the random id of an outbox, kept in a file beside it; made on first use.

    Raises:
        OutboxUnwritable: It can be neither read nor made.
    """
    path = outbox.with_name(outbox.name + ".id")
    try:
        make_private_directory(outbox)
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            kept = os.read(file, 64).decode("ascii", "replace").strip()
            with suppress(ValueError):
                return UUID(kept).hex
            made = uuid4().hex
            os.ftruncate(file, 0)
            os.pwrite(file, made.encode(), 0)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise outbox_unwritable(outbox, error) from error
    return made


@cache
def boot_id() -> str:
    """Return what names this boot of this kernel; a random id where the system has no such name."""
    if sys.platform == "darwin":
        import subprocess

        with suppress(OSError, subprocess.SubprocessError):
            command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            return subprocess.run(  # noqa: S603 - a fixed command of the system
                command, capture_output=True, check=True, timeout=5, text=True
            ).stdout.strip()
    with suppress(OSError):
        # proc(5), /proc/sys/kernel/random/boot_id
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return uuid4().hex


def _host(outbox: Path, status: os.stat_result) -> str:
    return f"{outbox_id(outbox)}/{boot_id()}/{status.st_dev}:{status.st_ino}"
