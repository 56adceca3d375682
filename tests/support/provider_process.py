"""The fake provider as a process, so that it does not share the interpreter of the tests."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).with_name("fake_provider")


@contextmanager
def provider_process(*arguments: str) -> Iterator[str]:
    """Run the provider inside the context, and yield its base URL."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "--max-seconds", "600", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def logged_questions(log: Path) -> Counter[str]:
    """Count how often each question is in the log (`--log`)."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(json.loads(line) for line in lines)


def count_logged(log: Path) -> int:
    """Count the questions in the log; fast enough for a loop that waits."""
    return log.read_bytes().count(b"\n") if log.exists() else 0
