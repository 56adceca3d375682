"""Run the fake provider as a process: `python tests/support/fake_provider --port 0 --latency 0.5`.

The first line of output is the base URL. The last one, after SIGTERM or SIGINT, is JSON with the
counts of connections and outcomes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a directory
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from fake_provider import FakeProvider, Reply


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fake_provider", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0)
    add("--default", default="", metavar="SPEC", help='e.g. "status=500 times=2"; see Reply')
    add("--latency", type=float, help="seconds before the headers")
    add("--first-token-delay", type=float, help="seconds from the headers to the first event")
    add("--delay", type=float, help="seconds before each delta")
    add("--text", help="of all answers")
    add("--size", type=int, help="characters of all answers")
    add("--api-key")
    add("--rpm", type=float)
    add("--burst", type=float)
    add("--max-concurrency", type=int)
    add("--fail-rate", type=float, default=0.0)
    add("--fail-with", action="append", metavar="SPEC")
    add("--seed", type=int, default=0)
    add("--log", type=Path, help="a file for each question as a line of JSON, before its reply")
    add(
        "--after",
        nargs=2,
        action="append",
        default=[],
        metavar=("SECONDS", "CHANGE"),
        help="a change this long after the first request: rpm=N, burst=N, or the SPEC of --default",
    )
    add("--max-seconds", type=float, default=600.0)
    return parser.parse_args()


def _change(provider: FakeProvider, changes: list[tuple[float, str]]) -> None:
    """Make changes to a provider, at their times since its first request."""
    while not provider.stats:
        time.sleep(0.02)
    started = time.monotonic()
    for seconds, change in sorted(changes):
        time.sleep(max(started + seconds - time.monotonic(), 0))
        name, _, value = change.partition("=")
        if name in {"rpm", "burst"}:
            setattr(provider, name, float(value))
        else:
            provider.default = replace(Reply.parse(change), latency=provider.default.latency)


def main() -> None:
    """Serve until SIGTERM or SIGINT, or until the time is over."""
    args = _options()
    names = ("latency", "first_token_delay", "delay", "text", "size")
    values = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    provider = FakeProvider(
        default=replace(Reply.parse(args.default), **values),
        record=False,
        fail_with=tuple(args.fail_with or FakeProvider.fail_with),
        **{
            name: getattr(args, name)
            for name in (
                *("port", "api_key", "rpm", "burst", "max_concurrency"),
                *("fail_rate", "seed", "log"),
            )
        },
    )
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    changes = [(float(seconds), change) for seconds, change in args.after]
    if changes:
        threading.Thread(target=_change, args=(provider, changes), daemon=True).start()
    with provider:
        os.write(1, f"{provider.base_url}\n".encode())
        stop.wait(args.max_seconds)
    counts = {"max_concurrent": provider.max_concurrent, "connections": provider.connections}
    with suppress(OSError):  # the reader may have closed the pipe
        os.write(1, json.dumps({**counts, "stats": provider.stats}).encode() + b"\n")


if __name__ == "__main__":
    main()
