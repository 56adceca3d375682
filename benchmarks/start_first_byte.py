"""`qa ask` shows the first word as soon as a script would that keeps nothing.

A provider that takes 500 ms to the first token: the time from the start of the process to the
first byte on its stdout, against `peers/ten_lines.py`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Ended, Row, Unusable, paired
from benchmarks.setting import MODEL, Bench, provider

SCRIPT = Path(__file__).parent / "peers" / "ten_lines.py"
QUESTION = "Who am I?"


def run(bench: Bench) -> Iterator[Row]:
    """Measure it."""
    with provider(bench, "--first-token-delay", "0.5") as there:
        home = bench.home(there)
        script = (sys.executable, SCRIPT, MODEL, QUESTION)
        pairs = paired(
            bench.size(10, 20),
            lambda: _first_byte(home.qa("ask", QUESTION)),
            lambda: _first_byte(measure.run(script, home.env)),
        )
    what = "first byte of `qa ask` / of ten lines of Python, 500 ms to the first token"
    yield Row.of_pairs(what, pairs, 1.05)


def _first_byte(ended: Ended) -> float:
    if ended.first_byte is None:
        raise Unusable("Nothing was printed.")
    return ended.first_byte
