"""`qa ask` is no slower than `llm`: the whole process, with a provider that answers at once.

Both stream, both keep the question and its answer, both ask the same server.
"""

from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Row, Unusable, paired
from benchmarks.setting import MODEL, Bench, llm, provider

QUESTION = "Who am I?"


def run(bench: Bench) -> Iterator[Row]:
    """Measure it."""
    runs = bench.size(10, 20)
    with provider(bench) as there:
        home, peer = bench.home(there), llm(bench).home(bench, there)
        ours = partial(home.seconds, "ask", QUESTION)
        pairs = paired(runs, ours, partial(peer.seconds, "-m", MODEL, QUESTION))
        if home.count() != runs + 1:
            raise Unusable("Not all questions are answered and on record.")
    yield Row.of_pairs("`qa ask` / `llm`, a provider that answers at once", pairs, 1.0)
