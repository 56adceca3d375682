from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from qacli.batch.job_slot import JobSlot


@pytest.mark.parametrize("is_taken", [False, True], ids=["in the pause", "while it waits again"])
def test_job_slot_cancelled_without_the_slot_releases_none(*, is_taken: bool) -> None:
    async def run() -> int:
        slots = asyncio.Semaphore(1)
        is_paused, ends = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            async with JobSlot(slots) as slot, slot.released():
                is_paused.set()
                await ends.wait()

        task = asyncio.create_task(wait())
        await is_paused.wait()
        if is_taken:
            await slots.acquire()
            ends.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if is_taken:
            slots.release()
        free = 0
        while not slots.locked():
            await slots.acquire()
            free += 1
        return free

    assert asyncio.run(run()) == 1


def test_job_slot_is_held_again_after_the_pause() -> None:
    async def run() -> list[bool]:
        slots = asyncio.Semaphore(1)
        states = []
        async with JobSlot(slots) as slot:
            states.append(slots.locked())
            async with slot.released():
                states.append(slots.locked())
            states.append(slots.locked())
        return [*states, slots.locked()]

    assert asyncio.run(run()) == [True, False, True, False]
