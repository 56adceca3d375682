"""`qa --version` and `qa --help` need at most a quarter of the time of those of `llm`."""

from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Row, paired
from benchmarks.setting import Bench, llm


def run(bench: Bench) -> Iterator[Row]:
    """Measure them."""
    home, peer = bench.home(), llm(bench)
    for option in ("--version", "--help"):
        ours, theirs = partial(home.seconds, option), partial(peer.seconds, option)
        pairs = paired(bench.size(10, 20), ours, theirs)
        yield Row.of_pairs(f"`qa {option}` / `llm {option}`", pairs, 0.25)
