"""`qa list`, `qa show` and a search on 5,000 records are quicker than `llm logs` on as many."""

from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Row, paired
from benchmarks.setting import MODEL, Bench, llm, provider

RECORDS = 5_000
WORD = "4321"

COMMANDS = (
    (("list", "-n", "3"), ("logs", "-n", "3")),
    (("show", "last"), ("logs", "-n", "3")),
    (("list", "--search", WORD), ("logs", "-q", WORD)),
)
"""Ours, and what does the same over there."""


def run(bench: Bench) -> Iterator[Row]:
    """Measure both, against the same."""
    home, installed = bench.home(), llm(bench)
    with provider(bench) as there:
        peer = installed.home(bench, there)
        peer.run("-m", MODEL, "What is there?")  # which makes its database
    home.fill(RECORDS)
    peer.fill(RECORDS)
    for ours, theirs in COMMANDS:
        pairs = paired(
            bench.size(10, 20), partial(home.seconds, *ours), partial(peer.seconds, *theirs)
        )
        what = f"`qa {' '.join(ours)}` / `llm {' '.join(theirs)}`, {RECORDS:,} records each"
        yield Row.of_pairs(what, pairs, 0.70)
