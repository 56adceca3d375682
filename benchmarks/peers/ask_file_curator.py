"""Ask every question of a file with bespokelabs-curator, which runs this in its own environment."""

# ruff: noqa: D101, D102 - its own names
import json
import sys
from pathlib import Path

from bespokelabs import curator  # type: ignore[import-not-found]


class Asker(curator.LLM):  # type: ignore[misc]
    def prompt(self, row: dict[str, str]) -> str:
        return row["question"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        return {"question": row["question"], "answer": response}


def main(base_url: str, model: str, file: str, output: str, jobs: str) -> None:
    """Ask all questions, with at most this number of requests in flight."""
    rows = [{"question": question} for question in Path(file).read_text().splitlines()]
    no_limit = {"max_requests_per_minute": 10**8, "max_tokens_per_minute": 10**11}
    asker = Asker(
        model_name=model,
        backend="openai",
        backend_params={
            "base_url": base_url,
            "max_concurrent_requests": int(jobs),
            **no_limit,
        },
    )
    with Path(output).open("w") as results:
        results.writelines(json.dumps(row) + "\n" for row in asker(rows).dataset)


if __name__ == "__main__":
    main(*sys.argv[1:])
