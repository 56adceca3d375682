"""Cancel a request to a provider from another thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancellation:
    """A request to cancel one answer, which any thread can make at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_requested = False
        self._callback: Callable[[], object] | None = None

    def request(self) -> None:
        """Cancel the answer; a second call does nothing."""
        with self._lock:
            self._is_requested = True
            callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call a function when the answer is cancelled; at once if it is already cancelled."""
        with self._lock:
            self._callback = callback
            is_requested = self._is_requested
        if is_requested:
            self.request()
        try:
            yield
        finally:
            with self._lock:
                self._callback = None
