"""Shorten the waits of items that failed in an outage, once the provider answers again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import random

RETURN_SECONDS = 2.0
"""The time over which the waiting items are asked again after an outage."""


class OutageWaits:
    """The waits of the items that are asked again later; used by one event loop.

    Args:
        pause: Waits for a number of seconds, or until the batch stops.
    """

    def __init__(self, pause: Callable[[float], Awaitable[None]]) -> None:
        self._pause = pause
        self._ended = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for this time, or after the end of an outage for a random part of two seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
                await self._pause(random() * RETURN_SECONDS)  # noqa: S311 - no secret

    def end(self) -> None:
        """End the present waits."""
        self._ended.set()
        self._ended = asyncio.Event()
