"""A process beside this one that loads the database layer while this one asks.

Either takes about a third of a second, and most machines have two processors: so the history is
ready by the time that the answer is there. The writer outlives a kill of its parent, and then
delivers at once what the outbox has of the question.
"""

import os
import pickle
import signal
import socket
import sys
import threading
from contextlib import suppress
from select import select
from time import sleep
from typing import TYPE_CHECKING, Any

from qacli.cli.console import Console
from qacli.cli.store import open_store
from qacli.config.settings import Settings
from qacli.domain import Outcome, Question
from qacli.errors import DatabaseError

if TYPE_CHECKING:
    from qacli.db.records import Store

DELIVERIES = (0.05, 0.5)
"""Seconds before each look for what a parent that is gone has left: its end takes a moment."""

HIGHEST_FILE = 4096


class Writer:
    """Keeps one outcome in the history, in a process of its own where there can be one.

    Args:
        settings: Where the history is.
        console: Told what was delivered from the outbox on the way.
    """

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._process: socket.socket | None = None
        self._id: int | None = None
        # A fork beside another thread could copy a lock that is held. Threads that Python does not
        # count are those of the local engine, which starts later and shares no lock with the child.
        # On other systems a library may not survive a fork at all.
        if sys.platform == "linux" and threading.active_count() == 1:
            self._process, self._id = _forked(settings, quiet=console.quiet)

    def upsert(self, ask: Question, outcome: Outcome) -> int:
        """Keep a question and what is known of its outcome; returns the record's id.

        Raises:
            DatabaseError: The database did not take it.
        """
        process, self._process = self._process, None
        if process is not None:
            # Where nobody waits to the end, it is not waited for in `close` either.
            number, self._id = self._id, None
            with process, suppress(OSError, EOFError, pickle.PickleError):
                _send(process, (ask, outcome))
                kept, notes, warnings = _receive(process)
                self._id = number
                for note in notes.splitlines():
                    self._console.info(note)
                for warning in warnings:
                    self._console.warning(warning)
                if isinstance(kept, DatabaseError):
                    raise kept
                return int(kept)
        # There is none, or it has come to grief: the same again changes nothing.
        return open_store(self._settings, self._console).upsert(ask, outcome)

    def id_for_uid(self, uid: str) -> int | None:
        """The id of the record of a question, where it has one.

        Raises:
            DatabaseError: The database is away.
        """
        return open_store(self._settings, self._console).id_for_uid(uid)

    def close(self) -> None:
        """End the process where there was nothing to keep; none is left to whoever is the first.

        In a container that is often a program that does not look after the orphans it gets.
        """
        if self._id is None:
            return
        with suppress(ProcessLookupError, ChildProcessError):
            if self._process is not None:
                self._process.close()
                # Whatever it is at, it may be cut off: that is what the outbox is for.
                os.kill(self._id, signal.SIGKILL)
            os.waitpid(self._id, 0)


def _forked(settings: Settings, *, quiet: bool) -> tuple[socket.socket, int] | tuple[None, None]:
    """The near end of a new process and its id, or None where the system has no room for one."""
    near, far = socket.socketpair()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        process = os.fork()
    except OSError:
        near.close()
        far.close()
        return None, None
    if process:
        far.close()
        return near, process
    try:
        near.close()
        _detach(far.fileno())
        _write(far, settings, quiet=quiet)
    finally:
        # Past everything that the parent has registered and not yet written.
        os._exit(0)


def _detach(kept: int) -> None:
    """Out of reach of the terminal's signals, and of pipes whose readers wait for their end."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.closerange(3, kept)
    os.closerange(kept + 1, HIGHEST_FILE)


def _write(parent: socket.socket, settings: Settings, *, quiet: bool) -> None:
    """Open the history, keep what the parent sends, and answer with the id or what went wrong."""
    from io import StringIO

    from qacli.recording.outbox import Outbox
    from qacli.recording.recovery import recover_outbox

    notes = StringIO()
    console = Console(None, notes, notes, verbose=True)
    store: Store | None = None
    failure: DatabaseError | None = None
    try:
        store = open_store(settings, console, set_aside=False)
    except DatabaseError as error:
        # While the answer arrives, it may come back: then it is tried again.
        if select([parent], [], [], 0)[0]:
            failure = error
    try:
        ask, outcome = _receive(parent)
    except (OSError, EOFError, pickle.UnpicklingError):
        _deliver_what_is_left(settings, console)
        return
    try:
        if failure is not None:
            raise failure
        store = store or open_store(settings, console, set_aside=False)
        kept: int | DatabaseError = store.upsert(ask, outcome)
    except DatabaseError as error:
        kept = error
    warnings: list[str] = []
    if store is not None and store.writable and not quiet:
        # Only now is it sure that there is a parent that shows them.
        with suppress(DatabaseError):
            recover_outbox(Outbox(settings.outbox_path), store, report=warnings.append)
    _send(parent, (kept, notes.getvalue(), [f"qa: {warning}" for warning in warnings]))


def _deliver_what_is_left(settings: Settings, console: Console) -> None:
    for pause in DELIVERIES:
        sleep(pause)
        with suppress(DatabaseError):
            open_store(settings, console, set_aside=False)


def _send(to: socket.socket, message: object) -> None:
    to.sendall(pickle.dumps(message))
    to.shutdown(socket.SHUT_WR)


def _receive(source: socket.socket) -> Any:  # noqa: ANN401 - whatever the other end has sent
    """The one message that comes.

    Raises:
        EOFError: The other end was closed before it had sent all of it.
        UnpicklingError: The same, and part of it has arrived.
    """
    with source.makefile("rb") as stream:
        return pickle.loads(stream.read())  # noqa: S301 - from our own process
