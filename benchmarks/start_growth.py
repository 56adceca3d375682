"""Listing, showing and searching are as quick on two million records as on two thousand."""

from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from time import perf_counter

from benchmarks import load
from benchmarks.measure import Row, Unusable, paired
from benchmarks.setting import Bench, Home, serving

FEW = 2_000
COMMANDS = (
    *(("list",), ("list", "--before", "1000")),
    *(("show", "last"), ("show", "1000")),
    *(("list", "--search", "1234"), ("list", "--search", "number")),
)
"""A search for a word that one record has, and for one that all have."""

PAGE = "/qas?order=desc&limit=100"
PAGES = 20
"""So many at once: one takes about a millisecond."""


def run(bench: Bench) -> Iterator[Row]:
    """Measure them, against themselves."""
    many = bench.size(100_000, 2_000_000)
    small, large = bench.home(), bench.home()
    small.fill(FEW)
    large.fill(many)
    yield from compare_sizes(large, small, many, COMMANDS, runs=bench.size(10, 20))


def compare_sizes(
    large: Home, small: Home, many: int, commands: Sequence[tuple[str, ...]], *, runs: int
) -> Iterator[Row]:
    """Compare commands and a page of two histories, one of `many` records and one of `FEW`."""
    for command in commands:
        ours, same = partial(large.seconds, *command), partial(small.seconds, *command)
        what = f"`qa {' '.join(command)}`: {many:,} records / {FEW:,}"
        yield Row.of_pairs(what, paired(runs, ours, same), 1.3)
    with serving(large) as first, serving(small) as second:
        pairs = paired(runs, partial(_pages, first), partial(_pages, second))
    yield Row.of_pairs(f"`GET {PAGE}`: {many:,} records / {FEW:,}", pairs, 1.3)


def _pages(address: str) -> float:
    start = perf_counter()
    for _ in range(PAGES):
        if load.get(address, PAGE) != HTTPStatus.OK:
            raise Unusable("The page is not there.")
    return (perf_counter() - start) / PAGES
