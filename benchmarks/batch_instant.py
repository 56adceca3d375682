"""`qa batch` needs little processor time for a question: the provider answers at once.

Questions a second that are asked, answered, on record and in the output file, and the processor's
time for each, of the whole process from its start to its end. (The provider's own time is not in
it, but on two cores it is one of them.)
"""

from collections.abc import Iterator
from statistics import median

from benchmarks.measure import Row, Unusable
from benchmarks.setting import Bench, homes, provider

JOBS = 64


def run(bench: Bench) -> Iterator[Row]:
    """Measure it on each database."""
    questions = bench.size(5_000, 20_000)
    with provider(bench) as there, homes(bench, there) as places:
        file = bench.questions(questions)
        for database, home in places.items():
            rates, costs = [], []
            for turn in range(bench.size(2, 5)):
                options = ("--jobs", str(JOBS), "--name", f"run-{turn}", "--quiet")
                output = home.path / f"answers-{turn}.jsonl"
                ended = home.qa("batch", file, "-o", output, *options, limit=120)
                if home.count() != questions * (turn + 1):
                    raise Unusable("Not all questions are answered and on record.")
                rates.append(questions / ended.seconds)
                costs.append(ended.cpu * 1000 / questions)
            what = f"{database}: {questions:,} questions, instant provider"
            measured = f"{questions / median(rates):.1f} s"
            yield Row(f"{what}: recorded", measured, rates, 700, most=False, unit="a second")
            yield Row(f"{what}: CPU a question", measured, costs, 1.2, unit="ms")
