"""`qa batch` keeps all its jobs busy: the whole run takes little more than the ideal time.

20,000 questions, a provider that takes 500 ms, 256 jobs. In the ideal run every job always waits
for an answer: questions / jobs x latency. A run is a process from its start to its end; the
results are written to a file, and all of them must be on record.
"""

from collections.abc import Iterator
from statistics import median

from benchmarks.measure import Row, Unusable
from benchmarks.setting import Bench, homes, provider

JOBS = 256
LATENCY = 0.5


def run(bench: Bench) -> Iterator[Row]:
    """Measure it on each database."""
    questions = bench.size(4_000, 20_000)
    ideal = questions / JOBS * LATENCY
    with provider(bench, "--latency", str(LATENCY)) as there, homes(bench, there) as places:
        file = bench.questions(questions)
        for database, home in places.items():
            figures = []
            for turn in range(bench.size(1, 3)):
                options = ("--jobs", str(JOBS), "--name", f"run-{turn}", "--quiet")
                output = home.path / f"answers-{turn}.jsonl"
                ended = home.qa("batch", file, "-o", output, *options, limit=10 * ideal + 60)
                if home.count() != questions * (turn + 1):
                    raise Unusable("Not all questions are answered and on record.")
                figures.append(ended.seconds)
            yield Row(
                f"{database}: {questions:,} questions, latency 500 ms, {JOBS} jobs: "
                "total / (questions / jobs x latency)",
                f"{median(figures):.1f} : {ideal:.1f} s",
                [seconds / ideal for seconds in figures],
                1.15,
            )
