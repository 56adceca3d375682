"""`qa serve` takes a thousand questions at the same time and stays responsive.

1,000 simultaneous `POST /ask`, a provider that takes 2 s, two worker processes. Against the 2 s:
from the first connection to the last answer. Every request must be answered with 200 and every
answer be on record. Meanwhile another process asks `/is_up` 20 times a second, each time on a new
connection; the slowest counts. The first burst, in which the server loads what it needs, does not
count. Beside the figure stand two floors: what the same server takes for a view that only waits
the 2 s (`peers/bare_wait.py`: client, server and threads alone), and what as many processes take
to ask with the openai package alone (`peers/bare_ask.py`: no server, and nothing is kept).
"""

import json
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from statistics import median

from benchmarks import load, measure
from benchmarks.measure import Row, Unusable, background
from benchmarks.setting import MODEL, Bench, Home, answering, free_port, homes, provider, serving

REQUESTS = 1_000
LATENCY = 2.0
PEERS = Path(__file__).parent / "peers"
WORKERS, THREADS = 2, 1000
OPTIONS = ("--workers", str(WORKERS), "--threads", str(THREADS))


def run(bench: Bench) -> Iterator[Row]:
    """Measure it on each database."""
    waiting = median(_waiting(bench))
    with provider(bench, "--latency", str(LATENCY)) as there, homes(bench, there) as places:
        asking = median(_asking(bench, places["SQLite"]))
        for database, home in places.items():
            with serving(home, *OPTIONS) as address:
                bursts = [_burst(home, address, n) for n in range(bench.size(3, 11))][1:]
            what = f"{database}: {REQUESTS:,} simultaneous `POST /ask`, latency 2 s"
            seconds = [each for each, _ in bursts]
            yield Row(
                f"{what}: total / 2 s",
                f"{median(seconds):.2f} : {LATENCY:.2f} s"
                f" (waiting alone {waiting:.2f} s, asking alone {asking:.2f} s)",
                [each / LATENCY for each in seconds],
                1.25,
            )
            slowest = [max(probes) * 1000 for _, probes in bursts]
            usual = median(probe * 1000 for _, probes in bursts for probe in probes)
            yield Row(
                f"{what}: slowest `/is_up`", f"median {usual:.0f} ms", slowest, 100, unit="ms"
            )


def _waiting(bench: Bench) -> list[float]:
    """The seconds of each burst on the view that only waits."""
    home, port = bench.home(), free_port()
    bare = (
        *(sys.executable, PEERS / "bare_wait.py"),
        *(str(LATENCY), str(port), str(WORKERS), str(THREADS)),
    )
    with answering(bare, home, f"http://127.0.0.1:{port}", "/is_up") as address:
        bursts = [
            load.burst(address, "/ask", [b'{"question": "?"}'] * REQUESTS)
            for _ in range(bench.size(3, 11))
        ][1:]
    if any(set(burst.statuses) != {HTTPStatus.OK} for burst in bursts):
        raise Unusable("The view that only waits did not answer all requests.")
    return [burst.seconds for burst in bursts]


def _asking(bench: Bench, home: Home) -> list[float]:
    """The seconds of each burst of the openai package alone."""
    bursts = bench.size(3, 11)
    bare = (sys.executable, PEERS / "bare_ask.py", MODEL)
    ended = measure.run([*bare, *map(str, (REQUESTS, WORKERS, bursts))], home.env, limit=300)
    seconds: list[float] = json.loads(ended.output)
    return seconds[1:]


def _burst(home: Home, address: str, number: int) -> tuple[float, list[float]]:
    """The seconds that a burst took, and those that each probe beside it took."""
    bodies = [json.dumps({"question": f"{number} and {n}?"}).encode() for n in range(REQUESTS)]
    probe = (sys.executable, PEERS / "probe.py", f"{address}/is_up")
    with background(probe, home.env, home.path / "probe.log") as probing:
        assert probing.stdout is not None  # noqa: S101 - for the type checker
        probing.stdout.readline()
        done = load.burst(address, "/ask", bodies)
        probing.terminate()
        probes: list[float] = json.loads(probing.stdout.read())
    good = done.statuses.count(200)
    recorded = home.count(f"status = 'answered' AND question LIKE '{number} and %'")
    if good != REQUESTS or recorded != REQUESTS:
        raise Unusable(f"{good} of {REQUESTS} requests were answered, {recorded} are on record.")
    return done.seconds, probes
