"""Ask every question of a file, by the method of the parallel processor of OpenAI's cookbook.

One loop starts a task as soon as two token buckets allow it. A failed request goes into a queue and
is tried five times in all. After a refusal (429) nothing is sent for 15 seconds. Each answer is
appended to a file. There is no state: a second run asks all questions again.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import aiohttp

ATTEMPTS = 5
PAUSE_SECONDS = 15.0
LOOP_SECONDS = 0.001


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


async def main(base_url: str, model: str, file: str, output: str, jobs: str) -> None:
    """Ask all questions, with at most this number of requests in flight."""
    waiting = [(question, ATTEMPTS) for question in _lines(file)][::-1]
    running: set[asyncio.Task[None]] = set()
    refused_at = -PAUSE_SECONDS
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}

    async def ask(client: aiohttp.ClientSession, question: str, attempts: int) -> None:
        nonlocal refused_at
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        async with client.post(f"{base_url}/chat/completions", json=body) as response:
            document = await response.json()
        if "error" not in document:
            with Path(output).open("a") as results:  # noqa: ASYNC230 - a short write
                results.write(json.dumps([body, document]) + "\n")
            return
        if response.status == 429:  # noqa: PLR2004
            refused_at = time.monotonic()
        if attempts > 1:
            waiting.insert(0, (question, attempts - 1))

    connector = aiohttp.TCPConnector(limit=int(jobs))
    async with aiohttp.ClientSession(headers=headers, connector=connector) as client:
        while waiting or running:
            if time.monotonic() - refused_at < PAUSE_SECONDS:
                await asyncio.sleep(0.1)
                continue
            while waiting and len(running) < int(jobs):
                task = asyncio.create_task(ask(client, *waiting.pop()))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.sleep(LOOP_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
