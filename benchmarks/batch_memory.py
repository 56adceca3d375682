"""`qa batch` takes as much memory for a million questions as for ten thousand.

The most resident memory of the whole process, from reading the file to the last line of output,
against the same program's with a hundredth of the questions.
"""

from collections.abc import Iterator

from benchmarks.measure import Row, Unusable, refuse_own_peak
from benchmarks.setting import Bench, provider

JOBS = 64


def run(bench: Bench) -> Iterator[Row]:
    """Measure it, once: a peak hardly varies."""
    few, many = bench.size((5_000, 50_000), (10_000, 1_000_000))
    peaks = []
    with provider(bench) as there:
        for questions in (few, many):
            home = bench.home(there)
            options = ("-o", home.path / "answers.jsonl", "--jobs", str(JOBS), "--quiet")
            file = bench.questions(questions)
            ended = home.qa("batch", file, *options, limit=60 + questions / 100)
            if home.count() != questions:
                raise Unusable("Not all questions are answered and on record.")
            refuse_own_peak(ended)
            peaks.append(ended.peak)
    yield Row(
        f"peak memory of {many:,} questions / of {few:,}",
        f"{peaks[1]:.0f} : {peaks[0]:.0f} MiB",
        [peaks[1] / peaks[0]],
        1.2,
    )
