"""`qa batch` loses little time to a provider that refuses requests or is away for a while.

They are refused at random, by rate, by a rate that changes, or by concurrency.

The ideal is a run at exactly the pace that the provider accepts. If requests are refused at random,
it is a run without refusals, plus the waits for `Retry-After` of the question that is refused most
often. To start takes as long as for one question.
Each run is a process from its start to its end. The part of refused requests is the provider's
own count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, log

from benchmarks.measure import Row, Unusable
from benchmarks.setting import Bench, provider

LATENCY = 0.4
JOBS = 64
LIMIT = 1.3
OUTAGE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Scenario:
    """A provider, and the seconds of an ideal run."""

    name: str
    options: tuple[str, ...]
    questions: int
    ideal: float


def random_refusals(part: float, retry_after: int, questions: int, seconds: float) -> Scenario:
    """Return a provider that refuses a part of all requests; without them a run takes `seconds`."""
    waits = max(floor(log(questions) / log(1 / part)), 1)
    failure = f"status=429 retry_after={retry_after}"
    return Scenario(
        f"{part:.0%} refused at random, Retry-After {retry_after}",
        ("--fail-rate", str(part), "--fail-with", failure),
        questions,
        seconds + waits * retry_after,
    )


def run_once(bench: Bench, scenario: Scenario) -> tuple[float, dict[str, int]]:
    """Ask all questions; return the seconds, and the requests by outcome."""
    with provider(bench, "--latency", str(LATENCY), *scenario.options) as there:
        home = bench.home(there)
        file = bench.questions(scenario.questions)
        options = ("-o", home.path / "answers.jsonl", "--jobs", str(JOBS), "--quiet")
        ended = home.qa("batch", file, *options, limit=20 * scenario.ideal + 60)
        if home.count() < scenario.questions:
            raise Unusable("Not all questions are answered and on record.")
    return ended.seconds, there.stats


def run(bench: Bench) -> Iterator[Row]:
    """Measure each scenario once."""
    many = bench.size(1_200, 20_000)
    minutes = bench.size(0.5, 2)
    start = run_once(bench, Scenario("", (), 1, LATENCY))[0] - LATENCY
    undisturbed, _ = run_once(bench, Scenario("", (), many, many / JOBS * LATENCY))
    scenarios = [
        *(
            random_refusals(part, wait, many, undisturbed)
            for part in (0.03, 0.1)
            for wait in (1, 20)
        ),
        *(
            Scenario(
                f"{rpm} a minute",
                ("--rpm", str(rpm), "--burst", str(rpm / 60)),
                round(rpm * minutes),
                start + 60 * minutes,
            )
            for rpm in (600, 6_000)
        ),
        Scenario(
            "eight at once",
            ("--max-concurrency", "8"),
            many // 4,
            start + many / 4 / 8 * LATENCY,
        ),
        Scenario(
            "6,000 a minute, from 10 to 20 s only 1,500",
            (
                *("--rpm", "6000", "--burst", "100", "--after", "10", "burst=25"),
                *("--after", "10", "rpm=1500", "--after", "20", "burst=100"),
                *("--after", "20", "rpm=6000"),
            ),
            2_250,
            start + 30,
        ),
        Scenario(
            "away from 5 to 35 s",
            ("--after", "5", "reset", "--after", "35", ""),
            many,
            undisturbed + OUTAGE_SECONDS,
        ),
    ]
    for scenario in scenarios:
        seconds, stats = run_once(bench, scenario)
        refused = sum(count for outcome, count in stats.items() if outcome != "ok")
        asked = sum(stats.values())
        yield Row(
            f"{scenario.name}: {scenario.questions:,} questions: total / ideal",
            f"{seconds:.1f} : {scenario.ideal:.1f} s; {refused / asked:.0%} refused",
            [seconds / scenario.ideal],
            LIMIT,
        )
