"""`qa list` and `qa show` are as quick on two million records as on two thousand."""

from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Row, paired
from benchmarks.setting import Bench

FEW = 2_000


def run(bench: Bench) -> Iterator[Row]:
    """Measure them, against themselves."""
    many = bench.size(100_000, 2_000_000)
    small, large = bench.home(), bench.home()
    small.fill(FEW)
    large.fill(many)
    for command in (("list",), ("list", "--before", "1000"), ("show", "last"), ("show", "1000")):
        ours, same = partial(large.seconds, *command), partial(small.seconds, *command)
        pairs = paired(bench.size(10, 20), ours, same)
        what = f"`qa {' '.join(command)}`: {many:,} records / {FEW:,}"
        yield Row.of_pairs(what, pairs, 1.3)
