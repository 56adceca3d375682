"""A search of a large history on PostgreSQL takes less than 0.3 s of its processor time.

The words are in all records, in 5 %, in 0.1 % and in four of them. Lists, a page and the storing of
records are compared with a history of 2,000 records.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import parse_qs, urlsplit

from benchmarks import measure
from benchmarks.measure import Row, paired
from benchmarks.setting import Bench, Home, database, postgres, psql
from benchmarks.start_growth import FEW, compare_sizes

WORDS = {"everywhere": "100 %", "twentieth": "5 %", "thousandth": "0.1 %", "singular": "4 records"}
ORDERS = ("best", "newest", "oldest")
COMMANDS = (("list",), ("list", "--threads"), ("show", "last"))

STORED = 500
"""Records that are stored at once."""

INSERT = """
INSERT INTO question_answer (question, answer, created_at, status, answered_at, latency_ms, model,
    params, prompt_tokens, completion_tokens, tags, uid)
SELECT 'What is everywhere, and ' || n || '?',
    (SELECT string_agg('w' || (hashint4(n * 16 + i) & 8191) || ' is one of the words of an answer',
        ', ') FROM generate_series(1, 20) i)
    || CASE WHEN n %% 20 = 0 THEN ' twentieth' ELSE '' END
    || CASE WHEN n %% 1000 = 0 THEN ' thousandth' ELSE '' END
    || CASE WHEN n %% (%(number)s / 4) = 77 THEN ' singular' ELSE '' END,
    timestamptz '2025-01-01 00:00+00' + n * interval '15 seconds', 'answered',
    timestamptz '2025-01-01 00:00:01+00' + n * interval '15 seconds', 1000,
    'fake-large-2026-01-01', '{"model": "fake-large"}', 12, 140,
    CASE WHEN n %% 33 = 0 THEN '["work"]' ELSE '[]' END::jsonb, %(uid)s || lpad(to_hex(n), 24, '0')
FROM generate_series(0, %(number)s - 1) n
"""


def run(bench: Bench) -> Iterator[Row]:
    """Measure the searches, then the rest against a small history."""
    many = bench.size(20_000, 2_000_000)
    runs = bench.size(5, 11)
    with postgres() as url:
        server = Path(parse_qs(urlsplit(url).query)["host"][0])
        large = bench.home(database_url=database(url))
        small = bench.home(database_url=database(url))
        for home, number in ((large, many), (small, FEW)):
            home.qa("migrate")
            _psql(home, INSERT % {"number": number, "uid": "'00000000'"})
            _psql(home, "VACUUM ANALYZE question_answer")
        for word, share in WORDS.items():
            for tag in ((), ("--tag", "work")):
                for order in ORDERS:
                    command = ("list", "--search", word, "--order", order, *tag)
                    seconds = [_processor(server, partial(large.qa, *command)) for _ in range(runs)]
                    what = f"`qa {' '.join(command)}` ({share}), {many:,} records"
                    shown = f"{median(seconds) * 1000:,.0f} ms"
                    yield Row(what, shown, seconds, 0.3, unit="s")
        day = [_processor(server, partial(large.qa, "stats", "--by", "day")) for _ in range(runs)]
        what = f"`qa stats --by day`, {many:,} records"
        yield Row(what, f"{median(day) * 1000:,.0f} ms", day, 3, unit="s")
        yield from compare_sizes(large, small, many, COMMANDS, runs=runs)
        batches = iter(range(1, 1000))
        stored = [partial(_store, server, home, batches) for home in (large, small)]
        what = f"to store {STORED} records: {many:,} records / {FEW:,}"
        yield Row.of_pairs(what, paired(runs, *stored), 1.5)


def _psql(home: Home, statement: str) -> None:
    measure.run((psql(), home.database_url, "-c", statement), home.env, limit=7200)


def _store(server: Path, home: Home, batches: Iterator[int]) -> float:
    """Store records; return the server's seconds of processor time."""
    statement = INSERT % {"number": STORED, "uid": f"'{next(batches):08}'"}
    return _processor(server, partial(_psql, home, statement))


def _processor(server: Path, command: Callable[[], object]) -> float:
    """Return the seconds of processor time that a command takes in the PostgreSQL server.

    The process of a connection is added to those of its parent when it has ended. Linux counts in
    hundredths of a second.
    """
    postmaster = int((server / "postmaster.pid").read_text().split()[0])
    before = _ended_processes(postmaster)
    command()
    time.sleep(0.1)
    return _ended_processes(postmaster) - before


def _ended_processes(parent: int) -> float:
    fields = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
    # cutime and cstime, the fields 16 and 17 in proc_pid_stat(5); the first here is field 3.
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
