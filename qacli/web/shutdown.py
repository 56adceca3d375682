"""Let a process complete its answers in flight before it ends.

granian waits only for requests whose client is still connected. Without this module an answer
whose client has disconnected would be lost, though the provider bills it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class DrainTracker:
    """Count the answers in flight."""

    def __init__(self) -> None:
        self._number = 0
        self._changed = threading.Condition()

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count one answer in this block."""
        with self._changed:
            self._number += 1
        try:
            yield
        finally:
            with self._changed:
                self._number -= 1
                self._changed.notify_all()

    def delay_exit(self, grace: float) -> None:
        """Delay the end of the process until no answer is in flight, for a limited time.

        Python waits for its non-daemon threads after the main thread has ended.

        Args:
            grace: The maximum number of seconds to wait.
        """

        def wait() -> None:
            threading.main_thread().join()
            with self._changed:
                self._changed.wait_for(lambda: self._number == 0, grace)

        threading.Thread(target=wait, name="qa-finish", daemon=False).start()
