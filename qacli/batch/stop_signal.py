"""Stop a run of a batch before all its items are settled, and end the pauses of its tasks."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from qacli.batch.options import StopReason
from qacli.errors import QaError


class StopSignal:
    """The stop of one run; used by one event loop.

    Args:
        on_stop: Called once, with a message for a person.

    Attributes:
        reason: The reason for the stop; None while the run goes on.
        error: The error for which the run stops; None without one.
    """

    def __init__(self, on_stop: Callable[[str], None]) -> None:
        self.reason: StopReason | None = None
        self.error: QaError | None = None
        self._on_stop = on_stop
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """True if the run stops."""
        return self._event.is_set()

    def set(self, reason: StopReason, message: str, error: QaError | None = None) -> None:
        """Stop the run; a second stop changes nothing."""
        if self.is_set:
            return
        self.reason = reason
        self.error = error
        self._event.set()
        self._on_stop(message)

    async def wait(self) -> None:
        """Wait until the run stops."""
        await self._event.wait()

    async def pause(self, seconds: float) -> None:
        """Wait for this time, or until the run stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()
