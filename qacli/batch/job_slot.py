"""The slot of a job, which an item holds except while it waits until it is asked again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self


class JobSlot:
    """One of the slots of a batch's jobs; the block of `async with` holds it.

    Args:
        slots: The slots.
    """

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = False

    async def __aenter__(self) -> Self:
        await self._acquire()
        return self

    async def __aexit__(self, *_error: object) -> None:
        # A task that was cancelled while it waited for the slot does not hold it.
        if self._is_held:
            self._release()

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Give up the slot during the `async with` block; after it, wait for a free slot."""
        self._release()
        yield
        await self._acquire()

    async def _acquire(self) -> None:
        await self._slots.acquire()
        self._is_held = True

    def _release(self) -> None:
        self._is_held = False
        self._slots.release()
