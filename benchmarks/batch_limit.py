"""`qa batch` finds a provider's limit and stays just below it.

600 requests a minute, 429 above, and no allowance saved up for more than a second. Against the
limit itself: the answers a minute after a time to settle, by the records' own times, and the part
of all requests that the provider refused, by its own count.
"""

from collections.abc import Iterator

from benchmarks.measure import Row
from benchmarks.setting import Bench, provider

PER_MINUTE = 600
JOBS = 64


def run(bench: Bench) -> Iterator[Row]:
    """Measure it, once: what varies evens out in minutes."""
    minutes, settling = bench.size((0.75, 15), (4, 60))
    limited = ("--latency", "0.5", "--rpm", str(PER_MINUTE), "--burst", str(PER_MINUTE / 60))
    with provider(bench, *limited) as there:
        home = bench.home(there)
        file = bench.questions(round(PER_MINUTE * minutes))
        options = ("-o", home.path / "answers.jsonl", "--jobs", str(JOBS), "--quiet")
        home.qa("batch", file, *options, limit=minutes * 120)
        query = "SELECT (julianday(answered_at) - 2440587.5) * 86400 FROM question_answer"
        times = sorted(float(row[0]) for row in home.rows(query))
    settled = [moment for moment in times if moment >= times[0] + settling]
    reached = (len(settled) - 1) / (settled[-1] - settled[0]) * 60
    refused = sum(count for outcome, count in there.stats.items() if outcome != "ok")
    asked = sum(there.stats.values())
    what = f"a provider's limit of {PER_MINUTE} requests a minute"
    yield Row(
        f"{what}: reached after {settling} s",
        f"{reached:.0f} a minute for {settled[-1] - settled[0]:.0f} s",
        [100 * reached / PER_MINUTE],
        95,
        most=False,
        unit="%",
    )
    yield Row(f"{what}: refused", f"{refused:,} of {asked:,}", [100 * refused / asked], 5, unit="%")
