"""Threads go on one after the other where a thousand want to at once.

Python runs one thread at a time. Where a burst of requests, a transaction or a burst of answers
has hundreds go on at once, each of them asks for the interpreter every few milliseconds until it
gets it, and a request that needs it for a moment waits among them all. So they queue outside of
the interpreter: the next one is woken when the one before it waits for something else, or is done.

It is a courtesy and no lock. Whoever has the turn and may wait for long gives it away first.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class _Mine(threading.local):
    """What a thread is doing about turns."""

    takes = False
    has = False


class Turns:
    """A queue of threads, of which one goes on."""

    def __init__(self) -> None:
        self._mine = _Mine()
        self._lock = threading.Lock()
        self._queue: deque[threading.Lock] = deque()
        self._is_free = True

    @contextmanager
    def taken(self) -> Iterator[None]:
        """In here the thread takes turns: it goes on in its turn once it has waited at a `Gate`."""
        outside, self._mine.takes = self._mine.takes, True
        try:
            yield
        finally:
            self._mine.takes = outside
            self.give()

    @property
    def are_taken(self) -> bool:
        """Whether this thread takes turns."""
        return self._mine.takes

    def take(self) -> None:
        """Wait for the turn, if this thread takes turns and has not got it."""
        if self._mine.takes and not self._mine.has:
            gate = Gate(self)
            gate.open()
            gate.wait()

    def give(self) -> None:
        """Let the next one go on, if this thread has the turn: it ends, or is about to wait."""
        if not self._mine.has:
            return
        self._mine.has = False
        with self._lock:
            if not self._queue:
                self._is_free = True
                return
            following = self._queue.popleft()
        following.release()

    def wait(self, closed: threading.Lock) -> None:
        """Give the turn away and wait for `wake`; then it is this thread's turn again."""
        self.give()
        closed.acquire()
        self._mine.has = True
        if not self._mine.takes:
            # It would have nobody to give it to: whoever waits for another's gate, say.
            self.give()

    def wake(self, closed: threading.Lock) -> None:
        """Let a thread that has begun to `wait`, or is about to, go on in its turn."""
        with self._lock:
            if not self._is_free:
                self._queue.append(closed)
                return
            self._is_free = False
        closed.release()


TURNS = Turns()
"""Of this process; it has one interpreter, too."""


class Gate:
    """Closed until another thread opens it, once. Whoever waits at it has made it."""

    # A lock that another thread opens: it costs a tenth of an Event or a Future.
    __slots__ = ("_in_turn", "_lock", "_turns")

    def __init__(self, turns: Turns = TURNS) -> None:
        self._turns = turns
        self._in_turn = turns.are_taken
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        """Wait until it is open, and for the turn where this thread takes turns."""
        if self._in_turn:
            self._turns.wait(self._lock)
        else:
            self._lock.acquire()

    def open(self) -> None:
        """Let the one that waits go on."""
        if self._in_turn:
            self._turns.wake(self._lock)
        else:
            self._lock.release()
