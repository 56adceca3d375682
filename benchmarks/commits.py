"""Nothing is more than 10 % slower than in another commit: start-up, ask, list, batch and server.

Both versions run by turns. A figure is the time of this version divided by that of the other one.
A row fails only if the whole 95 % interval of the median is above the limit, so that a noisy
machine does not fail it.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import load, measure
from benchmarks.measure import Pairs, Row, Unusable, paired
from benchmarks.setting import KEY, MODEL, ROOT, Bench, Home, Provider, provider, serving

MAX_RATIO = 1.10
RECORDS = 2_000
QUESTIONS = 1_500
CONNECTIONS = 8
COMMANDS = (("--version",), ("list", "-n", "3"), ("show", "last"), ("ask", "Who am I?"))
CHAT = "/v1/chat/completions"


def run(bench: Bench) -> Iterator[Row]:
    """Compare the versions."""
    program = _program(bench)
    with provider(bench) as there:
        ours, other = (replace(bench.home(there), program=each) for each in (None, program))
        for home in (ours, other):
            home.fill(RECORDS)
        for command in COMMANDS:
            seconds = (partial(home.seconds, *command) for home in (ours, other))
            pairs = paired(bench.size(20, 60), *seconds)
            yield _row(f"`qa {' '.join(command)}`", pairs, "ms", 1000)
        pairs = paired(bench.size(20, 60), *(partial(_first_byte, home) for home in (ours, other)))
        yield _row("`qa ask`, first byte", pairs, "ms", 1000)
        yield _batch(bench, there, program)
        yield from _server(bench, there, program)


def _row(what: str, pairs: Pairs, unit: str, scale: float) -> Row:
    row = Row.of_pairs(f"{what} / other commit", pairs, MAX_RATIO, scale=scale, unit=unit)
    return replace(row, beyond_noise=True)


def _program(bench: Bench) -> Path:
    """Return `qa` of the other version: of a worktree, or of a commit, which is checked out.

    Raises:
        Unusable: There is neither.
    """
    if not bench.against:
        raise Unusable("Name a commit or a worktree with --against.")
    path = Path(bench.against).resolve()
    if not path.is_dir():
        path = bench.directory / "commit"
        env = dict(os.environ) | {"UV_COMPILE_BYTECODE": "1"}
        archive = bench.directory / "commit.tar"
        git = ("git", "-C", ROOT, "archive", "--output", archive, bench.against)
        measure.run(git, env)
        path.mkdir()
        measure.run(("tar", "-xf", archive, "-C", path), env)
        measure.run(("uv", "sync", "-q", "--directory", path), env, limit=600)
    program = path / ".venv" / "bin" / "qa"
    if not program.exists():
        raise Unusable(f"There is no {program}: run uv sync there.")
    return program


def _first_byte(home: Home) -> float:
    first_byte = home.qa("ask", "Who am I?").first_byte
    if first_byte is None:
        raise Unusable("Nothing was printed.")
    return first_byte


def _batch(bench: Bench, there: Provider, program: Path) -> Row:
    """Compare the processor time of a batch, each in an empty history."""
    file = bench.questions(QUESTIONS)

    def processor_time(program: Path | None) -> float:
        home = replace(bench.home(there), program=program)
        cpu = home.qa("batch", file, "-o", home.path / "answers.jsonl", "-q", "-j", "64").cpu
        if home.count() != QUESTIONS:
            raise Unusable("Not all questions are answered and on record.")
        return cpu

    turns = (partial(processor_time, each) for each in (None, program))
    what = f"`qa batch`, {QUESTIONS:,} questions, processor time"
    return _row(what, paired(bench.size(8, 20), *turns), "ms", 1000)


def _server(bench: Bench, there: Provider, program: Path) -> Iterator[Row]:
    """Compare the time of a request, of several connections to one worker process."""
    message = {"role": "user", "content": "Who am I?"}
    body = json.dumps({"model": MODEL, "messages": [message]}).encode()

    def read(address: str) -> float:
        return 1 / load.rate(address, "/qa/7", connections=CONNECTIONS, seconds=2)

    def ask(address: str) -> float:
        timed = load.timed(address, CHAT, body, key=KEY, connections=CONNECTIONS, seconds=2)
        return 1 / timed.rate

    rows: dict[str, Callable[[str], float]] = {"GET /qa/{id}": read, f"POST {CHAT}": ask}
    with ExitStack() as stack:
        addresses = []
        for each in (None, program):
            home = replace(bench.home(there), program=each)
            home.fill(RECORDS)
            addresses.append(stack.enter_context(serving(home, "--workers", "1")))
        for what, seconds in rows.items():
            turns = (partial(seconds, address) for address in addresses)
            yield _row(f"`{what}`", paired(bench.size(10, 30), *turns), "µs", 1e6)
