"""`qa list` and `qa show` on 5,000 records are quicker than `llm logs` on as many."""

from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Row, paired
from benchmarks.setting import MODEL, Bench, llm, provider

RECORDS = 5_000


def run(bench: Bench) -> Iterator[Row]:
    """Measure both, against the same."""
    home, installed = bench.home(), llm(bench)
    with provider(bench) as there:
        peer = installed.home(bench, there)
        peer.run("-m", MODEL, "What is there?")  # which makes its database
    home.fill(RECORDS)
    peer.fill(RECORDS)
    theirs = partial(peer.seconds, "logs", "-n", "3")
    for command in (("list", "-n", "3"), ("show", "last")):
        pairs = paired(bench.size(10, 20), partial(home.seconds, *command), theirs)
        what = f"`qa {' '.join(command)}` / `llm logs -n 3`, {RECORDS:,} records each"
        yield Row.of_pairs(what, pairs, 0.70)
