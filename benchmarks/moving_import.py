"""`qa import` takes at most three times what the driver takes for the same rows.

Against `executemany` of the raw driver into a history of the same schema, indexes and all.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter

from benchmarks.measure import Row, paired
from benchmarks.setting import Bench, database, postgres


def run(bench: Bench) -> Iterator[Row]:
    """Measure both by turns, each time into an empty history."""
    records, runs = bench.size((20_000, 3), (1_000_000, 3))
    source = bench.home()
    source.fill(records)
    source.export()
    export = source.path / "history.jsonl"
    what = f"`qa import` of {records:,} records / `executemany`"

    def ours_to_sqlite() -> float:
        return bench.home().take_in(source).seconds

    def theirs_to_sqlite() -> float:
        home = bench.home()
        home.qa("list")
        with closing(sqlite3.connect(home.path / "history.db")) as connection:
            return _executemany(connection, "?", export)

    pairs = paired(runs, ours_to_sqlite, theirs_to_sqlite)
    yield Row.of_pairs(f"{what}, SQLite", pairs, 3, scale=1, unit="s")
    with postgres() as url:

        def ours_to_postgres() -> float:
            home = bench.home(database_url=database(url))
            home.qa("migrate")
            return home.take_in(source).seconds

        def theirs_to_postgres() -> float:
            import psycopg2

            home = bench.home(database_url=database(url))
            home.qa("migrate")
            with closing(psycopg2.connect(home.database_url)) as connection:
                return _executemany(connection, "%s", export)

        pairs = paired(runs, ours_to_postgres, theirs_to_postgres)
    yield Row.of_pairs(f"{what}, PostgreSQL", pairs, 3, scale=1, unit="s")


def _executemany(connection: sqlite3.Connection, mark: str, export: Path) -> float:
    """Seconds for all rows in one transaction, read from the same file."""
    start = perf_counter()
    with export.open(encoding="utf-8") as lines:
        names = list(json.loads(lines.readline()))
        lines.seek(0)
        values = ", ".join([mark] * len(names))
        insert = f"INSERT INTO question_answer ({', '.join(names)}) VALUES ({values})"  # noqa: S608
        connection.cursor().executemany(insert, (_row(line) for line in lines))
    connection.commit()
    return perf_counter() - start


def _row(line: str) -> tuple[object, ...]:
    document = json.loads(line)
    return tuple(
        json.dumps(value) if isinstance(value, dict | list) else value
        for value in document.values()
    )
