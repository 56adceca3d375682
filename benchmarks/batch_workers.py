"""Three workers of one batch are nearly three times as fast as one, and keep one limit and budget.

Each worker is a process with a data directory of its own, as on a machine of its own, and all of
them have one PostgreSQL and the same host name. The rates are those between a third and nine tenths
of the answers, by the records' own times: a batch of hours has no start. To join a batch is the
time from the start of `qa batch work` to its first request, with a million items waiting.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.measure import Command, Row, Unusable
from benchmarks.setting import MODEL, QA, Bench, Home, database, postgres, provider

NAME = "n"
WORKERS = 3
PER_MINUTE = 6_000
MILLION = 1_000_000
ONE_ANSWER = 0.001
"""US dollars for an answer of three tokens."""

ADD_ITEMS = f"""
    INSERT INTO batch_item (batch_id, position, key, payload, state)
    SELECT batch_id, n, 'more-' || n, payload, 'waiting'
    FROM batch_item, generate_series(101, {MILLION}) n WHERE position = 1;
    UPDATE batch SET items = (SELECT count(*) FROM batch_item);
    ANALYZE batch_item
"""  # noqa: S608 - as written above


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch that workers have asked.

    Attributes:
        rate: Answers a second.
        refused: The part of the requests that the provider refused.
        spent: US dollars.
        answers: The number of answers.
    """

    rate: float
    refused: float
    spent: float
    answers: int


def run(bench: Bench) -> Iterator[Row]:
    """Measure each claim once, and the speed of one and of three workers in turn."""
    with postgres() as server:
        ratios, rates = [], []
        many = bench.size(480, 4_800)
        for _ in range(bench.size(2, 3)):
            one = ask(bench, server, 1, many, ("--latency", "0.5"))
            three = ask(bench, server, WORKERS, 2 * many, ("--latency", "0.5"))
            ratios.append(three.rate / one.rate)
            rates.append(f"{three.rate:.1f} : {one.rate:.1f}")
        yield Row(
            "500 ms, 8 jobs each: answers a second of three workers / of one",
            f"{', '.join(rates)} a second",
            ratios,
            2.7,
            most=False,
        )
        limit = ("--latency", "0.1", "--rpm", str(PER_MINUTE), "--burst", str(PER_MINUTE / 60))
        asked = ask(bench, server, WORKERS, bench.size(4_000, 30_000), limit, jobs=32)
        what = f"three workers, a limit of {PER_MINUTE:,} a minute"
        percent = 6_000 * asked.rate / PER_MINUTE
        yield Row(what, f"{60 * asked.rate:,.0f} a minute", [percent], 90, most=False, unit="%")
        yield Row(f"{what}: refused", "by all together", [100 * asked.refused], 1, unit="%")
        budget = bench.size(0.2, 2.0)
        options = ("--latency", "0.2", "--text", "one two three")
        questions = round(3 * budget / ONE_ANSWER)
        asked = ask(bench, server, WORKERS, questions, options, max_cost=budget)
        over = max(asked.spent - budget, 0.0) / ONE_ANSWER
        yield Row(
            "three workers with --max-cost: answers beyond the budget / requests in flight",
            f"{asked.spent:.4f} of {budget} US dollars spent, {asked.answers:,} answers",
            [over / (WORKERS * 8)],
            1.0,
        )
        yield join(bench, server)


def ask(  # noqa: PLR0913 - the parts of a run, by name
    bench: Bench,
    server: str,
    workers: int,
    questions: int,
    options: tuple[str, ...],
    *,
    jobs: int = 8,
    max_cost: float | None = None,
) -> Asked:
    """Let workers ask a batch; return the counts of their work."""
    log = bench.place("log") / "asked"
    budget = () if max_cost is None else ("--max-cost", str(max_cost))
    with provider(bench, "--log", str(log), *options) as there:
        url = database(server)
        homes = [bench.home(there, url) for _ in range(workers)]
        for home in homes:
            (home.path / "prices.toml").write_text(f'"{MODEL}" = [0.0, {ONE_ANSWER * 1e6 / 3}]\n')
        begin(bench, homes[0], questions, log, budget)
        with ExitStack() as stack:
            work(stack, homes, jobs, seconds=400)
        spent = float(homes[0].rows("SELECT spent_usd FROM batch")[0][0])
        query = "SELECT extract(epoch FROM answered_at) FROM question_answer WHERE answer <> ''"
        times = sorted(float(row[0]) for row in homes[0].rows(query))
    if max_cost is None and len(times) != questions:
        raise Unusable(f"{len(times)} of {questions} questions are answered.")
    first, last = len(times) // 3, len(times) * 9 // 10
    rate = (last - first) / (times[last] - times[first])
    refused = sum(count for outcome, count in there.stats.items() if outcome != "ok")
    return Asked(rate, refused / sum(there.stats.values()), spent, len(times))


def begin(
    bench: Bench, home: Home, questions: int, log: Path, options: tuple[str, ...] = ()
) -> None:
    """Migrate the database, load a batch, and stop after its first question was sent."""
    home.qa("migrate")
    arguments: Command = (
        "batch",
        bench.questions(questions),
        "--name",
        NAME,
        "-j",
        "1",
        "-q",
        *options,
    )
    with measure.background((QA, *arguments), home.env, home.path / "errors") as process:
        measure.until(120, lambda: log.stat().st_size > 0)
        process.send_signal(signal.SIGINT)
        process.wait(60)


def work(stack: ExitStack, homes: list[Home], jobs: int, seconds: float) -> None:
    """Start a worker in each home, and wait until all have ended."""
    command = (QA, "batch", "work", NAME, "-q", "-j", str(jobs))
    processes = [
        stack.enter_context(measure.background(command, home.env, home.path / "errors"))
        for home in homes
    ]
    for process in processes:
        process.wait(seconds)


def join(bench: Bench, server: str) -> Row:
    """Return the seconds from the start of a worker to its first request, of a million items."""
    log = bench.place("log") / "asked"
    with provider(bench, "--latency", "1", "--log", str(log)) as there:
        home = bench.home(there, database(server))
        begin(bench, home, 100, log)

        def seconds() -> float:
            before = log.stat().st_size
            worker = bench.home(there, home.database_url)
            command = (QA, "batch", "work", NAME, "-q", "-j", "8")
            started = time.perf_counter()
            with measure.background(command, worker.env, worker.path / "errors") as process:
                measure.until(60, lambda: log.stat().st_size > before)
                seconds_taken = time.perf_counter() - started
                process.send_signal(signal.SIGINT)
                process.wait(60)
            return seconds_taken

        few = [seconds() for _ in range(3)]
        import psycopg2

        with psycopg2.connect(home.database_url) as connection:
            connection.cursor().execute(ADD_ITEMS)
        connection.close()
        many = [seconds() for _ in range(bench.size(3, 5))]
    measured = f"{median(few):.1f} s with 100 items"
    return Row("to join a batch of a million items", measured, many, 3.0, unit="s")
