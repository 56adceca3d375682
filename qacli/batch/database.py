"""The database as a batch uses it: in a thread, and with patience while it is away."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

from qacli.batch.options import Progress
from qacli.errors import DatabaseError, RecordRefused

T = TypeVar("T")


class OutageRetry:
    """Call the database again while it is away.

    Args:
        progress: Shows the reason while a call waits.
        max_seconds: How long to try.
        max_pause: Seconds between two attempts at most.
    """

    def __init__(self, progress: Progress, max_seconds: float, max_pause: float = 10.0) -> None:
        self._progress = progress
        self._max_seconds = max_seconds
        self._max_pause = max_pause
        self._stopped = threading.Event()

    def call(
        self,
        function: Callable[..., T],
        *arguments: Any,  # noqa: ANN401 - the function's
        max_seconds: Callable[[DatabaseError], float] | None = None,
    ) -> T:
        """Call a function, again and again while the database is away.

        Args:
            function: The function.
            arguments: Its arguments.
            max_seconds: Called with each error; returns how long to try from the first call on.

        Raises:
            RecordRefused: The database does not take a record; that does not change.
            DatabaseError: It has been away for too long, or `stop` was called.
        """
        began, pause = monotonic(), 0.5
        while True:
            try:
                result = function(*arguments)
            except RecordRefused:
                raise
            except DatabaseError as error:
                limit = max_seconds(error) if max_seconds is not None else self._max_seconds
                self._progress.held_up = error.what
                if monotonic() + pause > began + limit or self._stopped.wait(pause):
                    raise
                pause = min(pause * 2, self._max_pause)
            else:
                self._progress.held_up = ""
                return result

    def stop(self) -> None:
        """Try each call once only from now on; one that waits fails at once."""
        self._stopped.set()


class DatabaseExecutor(OutageRetry):
    """A thread that calls the database for an event loop."""

    def __init__(self, progress: Progress, max_seconds: float) -> None:
        super().__init__(progress, max_seconds)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="qa-claims")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - its own
        """Call a function in the thread, after all that came before; see `call`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.call, function, *arguments)

    def close(self) -> None:
        """End the thread once the call that it is in has ended."""
        self.stop()
        self._thread.shutdown(cancel_futures=True)
