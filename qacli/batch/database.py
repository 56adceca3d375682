"""Call the database from an event loop, with retries while it cannot be reached."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

from qacli.batch.progress import Progress
from qacli.errors import DatabaseError, RecordRefused

T = TypeVar("T")


class OutageRetry:
    """Retries of calls to a database that cannot be reached.

    Args:
        progress: Gets the reason while a call waits.
        max_seconds: Seconds to try at most.
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
        """Call a function until the database can be reached.

        Args:
            function: The function.
            arguments: Its arguments.
            max_seconds: Called with each error; returns the seconds to try since the first call.

        Raises:
            RecordRefused: The database does not accept a record, which no retry changes.
            DatabaseError: The time is over, or `stop` was called.
        """
        started, pause = monotonic(), 0.5
        while True:
            try:
                result = function(*arguments)
            except RecordRefused:
                raise
            except DatabaseError as error:
                limit = max_seconds(error) if max_seconds is not None else self._max_seconds
                self._progress.database_wait_reason = error.what
                if monotonic() + pause > started + limit or self._stopped.wait(pause):
                    raise
                pause = min(pause * 2, self._max_pause)
            else:
                self._progress.database_wait_reason = None
                return result

    def stop(self) -> None:
        """Try each call only once from now on; a call that waits fails at once."""
        self._stopped.set()


class DatabaseExecutor(OutageRetry):
    """Makes the database calls of an event loop, in one thread of its own."""

    def __init__(self, progress: Progress, max_seconds: float) -> None:
        super().__init__(progress, max_seconds)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="qa-claims")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - its own
        """Call a function in the thread, after all earlier calls; see `call`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.call, function, *arguments)

    def close(self) -> None:
        """End the thread after its current call."""
        self.stop()
        self._thread.shutdown(cancel_futures=True)
