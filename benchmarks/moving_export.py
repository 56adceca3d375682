"""`qa export` streams: memory does not grow with the history, and time is near the database's own.

Against `sqlite3 -json` and a copy by `psql`, of the same columns.
"""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Row, Unusable, paired, refuse_own_peak
from benchmarks.setting import Bench, Home, postgres, psql
from qacli.record_fields import RECORD_FIELDS

QUERY = f"SELECT {', '.join(RECORD_FIELDS)} FROM question_answer ORDER BY id"  # noqa: S608 - names of fields
"""All fields of a record, so that the databases copy the same columns as `qa export`."""


def run(bench: Bench) -> Iterator[Row]:
    """Measure memory once, since a peak hardly varies, and the times by turns."""
    few, many = bench.size((1_000, 100_000), (10_000, 1_000_000))
    small, large = bench.home(), bench.home()
    small.fill(few)
    large.fill(many)
    peaks = []
    for home in (small, large):
        ended = home.export()
        refuse_own_peak(ended)
        peaks.append(ended.peak)
    yield Row(
        f"`qa export`, peak memory: {many:,} records / {few:,}",
        f"{peaks[1]:.0f} : {peaks[0]:.0f} MiB",
        [peaks[1] / peaks[0]],
        1.1,
    )
    runs, what = bench.size(3, 5), f"`qa export` of {many:,} records"
    pairs = paired(runs, partial(_export, large), partial(_sqlite_json, large))
    yield Row.of_pairs(f"{what} / `sqlite3 -json`", pairs, 4, scale=1, unit="s")
    with postgres() as url:
        home = bench.home(database_url=url)
        home.qa("migrate")
        home.fill(many)
        pairs = paired(runs, partial(_export, home), partial(_copy, home))
    yield Row.of_pairs(f"{what} / `psql \\copy`", pairs, 4, scale=1, unit="s")


def _export(home: Home) -> float:
    return home.export().seconds


def _sqlite_json(home: Home) -> float:
    program = shutil.which("sqlite3")
    if program is None:
        raise Unusable("sqlite3 is needed, to compare with.")
    return _into_file(home, program, "-json", home.path / "history.db", QUERY)


def _copy(home: Home) -> float:
    return _into_file(home, psql(), home.database_url, "-c", f"\\copy ({QUERY}) to stdout")


def _into_file(home: Home, *command: str | Path) -> float:
    target = home.path / "copied"
    seconds = measure.run(command, home.env, limit=600, into=target).seconds
    if target.stat().st_size == 0:
        raise Unusable("Nothing was copied.")
    return seconds
