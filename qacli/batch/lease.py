"""Decide whether another worker of a batch has ended, and how long this one may send.

Each worker renews a lease in the database and holds a lock on a file in its outbox. Other workers
take over its claims when the lease has expired by the database's clock, or earlier if the lock file
proves that the process has ended: it is in the same outbox, of the same boot of the same kernel, is
the same file by device and inode, and is not locked. The name of the host and the paths are no
proof: two containers of one image have the same ones. A missing lock file is no proof either: it
may be on another machine.
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

from qacli.errors import OutboxUnwritable
from qacli.private_files import make_private_directory
from qacli.recording.outbox import outbox_unwritable

SUFFIX = ".worker"
MARGIN = 1 / 6
"""A worker stops sending when this part of its lease is left; it renews the lease as often."""

STALE_SECONDS = 3600.0
"""The age from which a lock file of an unknown worker is removed."""


def uptime() -> float:
    """Return the seconds of a monotonic clock that also counts while the machine sleeps."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """The time during which the claims of this worker are valid; none before the first `renew`.

    Args:
        seconds: The duration of the lease.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._valid_until: float | None = None

    def renew(self, sent_at: float) -> None:
        """Extend the lease.

        Args:
            sent_at: The time by `uptime` at which the renewal was sent; the lease lasts from then.
        """
        self._valid_until = sent_at + self.seconds * (1 - MARGIN)

    @property
    def is_valid(self) -> bool:
        """True as long as no other worker can take over the claims."""
        return self._valid_until is not None and uptime() < self._valid_until


class WorkerLock:
    """A file that this process locks until it ends.

    Args:
        outbox: The directory of the outbox.
        worker: The worker's id.

    Attributes:
        name: The file's name in the outbox.
        host: The place of the file: ids of outbox and boot, device and inode.

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
        """Release the lock; the file is removed if the worker has `left` the batch."""
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
    """Remove the lock file of a worker whose claims have been released."""
    if name.endswith(SUFFIX):
        with suppress(OSError):
            (outbox / name).unlink(missing_ok=True)


def remove_stale_locks(outbox: Path, registered: Container[str]) -> None:
    """Remove old lock files of ended processes that are not registered in the database.

    Args:
        outbox: The directory of the outbox.
        registered: The names of the lock files of all workers in the database.
    """
    with suppress(OSError):
        for path in outbox.iterdir():
            if path.suffix != SUFFIX or path.name in registered:
                continue
            if time.time() - path.stat().st_mtime < STALE_SECONDS:
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def outbox_id(outbox: Path) -> str:
    """Return the random id of an outbox, from a file next to it that is created on first use.

    Raises:
        OutboxUnwritable: The file can be neither read nor created.
    """
    path = outbox.with_name(outbox.name + ".id")
    try:
        make_private_directory(outbox)
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = os.read(file, 64).decode("ascii", "replace").strip()
            with suppress(ValueError):
                return UUID(text).hex
            new_id = uuid4().hex
            os.ftruncate(file, 0)
            os.pwrite(file, new_id.encode(), 0)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise outbox_unwritable(outbox, error) from error
    return new_id


@cache
def boot_id() -> str:
    """Return the id of this boot of the kernel; a random id if the system has none."""
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
