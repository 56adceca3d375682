"""The answers that a process has in flight, and that it waits for before it ends.

The server waits for the requests of clients that are still there, and for nothing else: an answer
that is completed for whoever asked and left would be cut off, paid for and all.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class DrainTracker:
    """How many answers are in flight."""

    def __init__(self) -> None:
        self._number = 0
        self._changed = threading.Condition()

    @contextmanager
    def track(self) -> Iterator[None]:
        """One of them."""
        with self._changed:
            self._number += 1
        try:
            yield
        finally:
            with self._changed:
                self._number -= 1
                self._changed.notify_all()

    def delay_exit(self, grace: float) -> None:
        """Let the process end only when there are none left, or the time is over.

        Python waits for a thread that is no daemon, once its main thread has ended.

        Args:
            grace: Seconds to wait at the most.
        """

        def wait() -> None:
            threading.main_thread().join()
            with self._changed:
                self._changed.wait_for(lambda: self._number == 0, grace)

        threading.Thread(target=wait, name="qa-finish", daemon=False).start()
