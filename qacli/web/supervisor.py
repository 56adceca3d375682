"""The main process of `qa serve`: start the worker processes, and replace those that end.

Workers are forked, which takes half the time of a new interpreter. A fork copies the state of
every lock: if another thread holds one, the import lock for example, it stays locked forever in
the worker. So the main process never has a second thread. granian's own main process has one
thread for each worker, to wait for its end; here the main thread waits for all of them at once.
"""

import logging
import multiprocessing
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from granian.server.mp import MPServer

if TYPE_CHECKING:
    from granian.server.mp import WorkerProcess

LOG = logging.getLogger("qa.web")

PROBE_SECONDS, CONNECT_SECONDS = 0.05, 1.0
"""The pause between two attempts to connect to this worker, and the limit for each attempt."""

READY, WAKE = b"ready", b"wake"
"""The messages to the main loop: a worker can be reached; the main process got a signal."""


class Supervisor(MPServer):
    """granian's server of several processes, with a main process of one thread.

    Args:
        on_ready: Called in the main process, once, when the first worker has sent `READY`.
        options: The options of granian's server.

    Attributes:
        messages: The end of a pipe that workers send `READY` to.
    """

    def __init__(self, on_ready: Callable[[], None], **options: Any) -> None:  # noqa: ANN401 - granian's
        super().__init__("qacli", **options)
        if sys.platform == "linux":
            # The default until Python 3.13; granian follows it.
            multiprocessing.set_start_method("fork", force=True)
        self._received, self.messages = multiprocessing.Pipe(duplex=False)
        self._on_ready: Callable[[], None] | None = on_ready
        self.main_loop_interrupt = Wakeup(self)  # type: ignore[assignment]

    def _spawn_worker(self, *arguments: Any, **options: Any) -> "WorkerProcess":  # noqa: ANN401 - granian's
        worker = super()._spawn_worker(*arguments, **options)
        worker.start = partial(_start, worker)  # type: ignore[method-assign]
        return worker

    def receive(self) -> None:
        """Wait for the next message or the next end of a worker, and act on it."""
        workers = {worker.inner.sentinel: worker for worker in self.wrks}
        for ready in wait([self._received, *workers]):
            if ready is self._received:
                if self._received.recv_bytes() == READY and self._on_ready is not None:
                    on_ready, self._on_ready = self._on_ready, None
                    on_ready()
                continue
            index = workers[ready].idx
            LOG.error("worker process %d ended unexpectedly", index + 1)
            self.interrupt_children.append(index)
            self.main_loop_interrupt.set()


def _start(worker: "WorkerProcess") -> None:
    """Start the process of a worker; replaces granian's method, which also starts a thread.

    The worker inherits the handler for SIGTERM, which would lose a signal during its start.
    So SIGTERM is blocked, and stays pending until `accept_signals`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        worker.inner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def accept_signals() -> None:
    """Let SIGTERM end this worker, which has just started, and ignore Ctrl-C.

    Ctrl-C reaches all processes of the terminal; only the main process handles it, and it ends
    the workers.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


class Wakeup:
    """The event that granian's main loop waits for; replaces a `threading.Event`.

    A signal handler sets it in the same thread that waits for it. With a `threading.Event` that
    thread could already hold the event's lock, and would wait for itself.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._is_set = False

    def set(self) -> None:
        """End the wait, or the next one."""
        if not self._is_set:
            self._is_set = True
            self._supervisor.messages.send_bytes(WAKE)

    def clear(self) -> None:
        """Let the next wait last until the next `set`."""
        self._is_set = False

    def wait(self) -> None:
        """Wait until the event is set, or the main process must end.

        granian clears the event after it has checked for a signal; a signal between these two
        steps shows only in `interrupt_signal`.
        """
        while not (self._is_set or self._supervisor.interrupt_signal):
            self._supervisor.receive()


def report_ready(host: str, port: int, messages: Connection) -> None:
    """Send `READY` to the main process, from a thread, once this worker accepts connections.

    Args:
        host: The address that the worker listens on.
        port: Its port.
        messages: The `messages` of the main process's `Supervisor`.
    """

    def probe() -> None:
        while True:
            time.sleep(PROBE_SECONDS)
            with suppress(OSError):
                socket.create_connection((host, port), CONNECT_SECONDS).close()
                break
        with suppress(OSError):  # the main process has ended
            messages.send_bytes(READY)

    threading.Thread(target=probe, name="qa-ready", daemon=True).start()
