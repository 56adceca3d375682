"""`qa ask` starts as fast as in another worktree: the whole process, and its first byte.

Both ask a provider that answers at once, by turns; `--against` names the worktree.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Ended, Row, Unusable, paired
from benchmarks.setting import QA, Bench, provider

QUESTION = "Who am I?"
MAX_RATIO = 1.03


def run(bench: Bench) -> Iterator[Row]:
    """Measure it."""
    if bench.against is None:
        raise Unusable("Name a worktree with --against.")
    runs = bench.size(20, 60)
    with provider(bench) as there:

        def asker(command: Path) -> Callable[[], Ended]:
            env = bench.home(there).env
            return lambda: measure.run([command, "ask", QUESTION], env)

        ours, theirs = asker(QA), asker(bench.against.resolve() / ".venv" / "bin" / "qa")
        whole = paired(runs, lambda: ours().seconds, lambda: theirs().seconds)
        first = paired(runs, lambda: _first_byte(ours()), lambda: _first_byte(theirs()))
    yield Row.of_pairs("`qa ask`, whole process / other worktree", whole, MAX_RATIO)
    yield Row.of_pairs("`qa ask`, first byte / other worktree", first, MAX_RATIO)


def _first_byte(ended: Ended) -> float:
    if ended.first_byte is None:
        raise Unusable("Nothing was printed.")
    return ended.first_byte
