"""A batch by the provider's Batch API: its memory, and the results that are stored in a second.

The memory is that of the whole process, from the upload to the last result. The rate is that of
`qa batch take` on SQLite, without a network: the provider's work takes no part in it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, Unusable, refuse_own_peak
from benchmarks.setting import Bench, provider

RATE_TARGET = 2_000
MEMORY_TARGET = 100
ANSWER = "A sentence of an answer that is neither long nor short. " * 8


def run(bench: Bench) -> Iterator[Row]:
    """Measure both, once."""
    number = bench.size(20_000, 100_000)
    limit = 60 + number / 50
    with provider(bench) as there:
        home = bench.home(there)
        home.qa("list")  # creates the database
        file = bench.questions(number)
        arguments = (file, "--name", "api", "--via", "batch-api", "--quiet")
        ended = home.qa("batch", *arguments, "-o", home.path / "out.jsonl", limit=limit)
        if home.count() != number:
            raise Unusable("Not all questions are answered and on record.")
        refuse_own_peak(ended)
        by_file = bench.home(there)
        by_file.qa("list")
        by_file.qa("batch", file, "--name", "file", "--via", "file", "--quiet", limit=limit)
        requests = by_file.path / "requests.jsonl"
        by_file.qa("batch", "requests", "file", "-o", requests, limit=limit)
        results = _answer(requests)
        take = by_file.qa("batch", "take", "file", results, limit=limit)
        if by_file.count() != number:
            raise Unusable("Not all results are on record.")
    yield Row(
        f"peak memory of {number:,} questions by the Batch API",
        f"{ended.peak:.0f} MiB",
        [ended.peak],
        MEMORY_TARGET,
        unit=" MiB",
    )
    yield Row(
        f"results stored in a second, of {number:,}",
        f"{number / take.seconds:,.0f}",
        [number / take.seconds],
        RATE_TARGET,
        most=False,
        unit=" a second",
    )


def _answer(requests: Path) -> Path:
    """Write a file of results for a file of requests."""
    results = requests.with_name("results.jsonl")
    message = {"role": "assistant", "content": ANSWER}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 99, "total_tokens": 108}
    with requests.open() as lines, results.open("w") as file:
        for number, line in enumerate(lines):
            body: dict[str, object] = {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "model": "m",
            }
            body |= {"choices": [choice], "usage": usage}
            response = {"status_code": 200, "request_id": f"r{number}", "body": body}
            custom_id = json.loads(line)["custom_id"]
            result = {"id": f"b{number}", "custom_id": custom_id, "response": response}
            file.write(json.dumps({**result, "error": None}) + "\n")
    return results
