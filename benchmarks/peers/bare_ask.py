"""Ask many questions at the same time with the openai package alone: no server, nothing is kept.

Prints the seconds that each burst took, as JSON; the arguments are the model, how many questions,
in how many processes, and how many bursts.
"""

import asyncio
import json
import sys
import time
from multiprocessing import Barrier, Process, SimpleQueue
from typing import TYPE_CHECKING

from openai import AsyncOpenAI, DefaultAioHttpClient

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier as Started

LIMIT_SECONDS = 60


async def ask(client: AsyncOpenAI, model: str, number: int) -> None:
    """Ask one question and read its answer as it streams."""
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": f"{number}?"}], stream=True
    )
    async for _ in stream:
        pass


async def work(
    model: str,
    number: int,
    bursts: int,
    together: "Started",
    times: "SimpleQueue[tuple[float, float]]",
) -> None:
    """Send the part of one process of each burst, at the same time as the others."""
    async with AsyncOpenAI(max_retries=0, http_client=DefaultAioHttpClient()) as client:
        for _ in range(bursts):
            await asyncio.to_thread(together.wait, LIMIT_SECONDS)
            start = time.monotonic()
            await asyncio.gather(*(ask(client, model, n) for n in range(number)))
            times.put((start, time.monotonic()))


def run(*arguments: object) -> None:
    """Run `work`; the function that multiprocessing starts."""
    asyncio.run(work(*arguments))  # type: ignore[arg-type]


def main() -> None:
    """Start the processes, and take the time from the first beginning to the last end."""
    model, (number, processes, bursts) = sys.argv[1], map(int, sys.argv[2:])
    together: Started = Barrier(processes)
    times: SimpleQueue[tuple[float, float]] = SimpleQueue()
    parts = (model, number // processes, bursts, together, times)
    workers = [Process(target=run, args=parts) for _ in range(processes)]
    for worker in workers:
        worker.start()
    seconds = []
    for _ in range(bursts):
        starts, ends = zip(*(times.get() for _ in workers), strict=True)
        seconds.append(max(ends) - min(starts))
    for worker in workers:
        worker.join()
    print(json.dumps(seconds))  # noqa: T201


if __name__ == "__main__":
    main()
