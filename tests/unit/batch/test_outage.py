from __future__ import annotations

import asyncio

from qacli.batch.outage import RETURN_SECONDS, OutageWaits


def test_outage_waits_end_of_the_outage_shortens_the_waits() -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def main() -> None:
        waits = OutageWaits(pause)
        items = [asyncio.create_task(waits.wait(86_400)) for _ in range(3)]
        await asyncio.sleep(0)
        waits.end()
        await asyncio.gather(*items)

    asyncio.run(main())
    assert len(pauses) == 3
    assert all(0 <= seconds <= RETURN_SECONDS for seconds in pauses)


def test_outage_waits_without_an_end_last_their_time() -> None:
    async def main() -> None:
        waits = OutageWaits(asyncio.sleep)
        waits.end()  # an earlier one
        item = asyncio.create_task(waits.wait(0.01))
        await item

    asyncio.run(main())
