"""`GET /qa/{id}` does most of what a view can do at all under this server.

Requests a second, against `peers/bare_view.py`: a bare Flask view under the same server with the
same workers and threads, that reads the same row of the same database by SQLAlchemy Core.
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.measure import Row, paired
from benchmarks.setting import Bench, answering, free_port, serving

RECORDS = 5_000
PATH = "/qa/1234"
WORKERS, THREADS, CONNECTIONS = 2, 64, 16


def run(bench: Bench) -> Iterator[Row]:
    """Measure both, by turns."""
    home = bench.home()
    home.fill(RECORDS)
    port = free_port()
    bare = (
        *(sys.executable, Path(__file__).parent / "peers" / "bare_view.py"),
        *(f"sqlite:///{home.path / 'history.db'}", str(port), str(WORKERS), str(THREADS)),
    )
    options = ("--workers", str(WORKERS), "--threads", str(THREADS))
    with (
        serving(home, *options) as ours,
        answering(bare, home, f"http://127.0.0.1:{port}", PATH) as peer,
    ):
        measure = partial(load.rate, path=PATH, connections=CONNECTIONS, seconds=bench.size(2, 5))
        pairs = paired(bench.size(5, 11), partial(measure, ours), partial(measure, peer))
    what = "`GET /qa/{id}` / a bare Flask view, requests a second"
    yield Row.of_pairs(what, pairs, 0.70, most=False, scale=1, unit="a second")
