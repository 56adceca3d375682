"""`POST /v1/chat/completions` costs less than LiteLLM's proxy, though each request is recorded.

The same body again and again, with a provider that takes 0 ms or 200 ms, streamed and not: to the
provider alone, to `qa serve` with its history on PostgreSQL, and to LiteLLM's proxy, by turns. Each
server has two worker processes. The rate is of 32 connections at the same time, or of 128 if the
provider takes 200 ms, so that the servers limit it and not the provider. The latencies are of 4,
and those of the provider alone are taken off. Each answer of `qa serve` has to be on record.

LiteLLM's proxy runs without a database: it needs the engines of prisma, which pip does not bring.
It keeps nothing then, which is to its advantage.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks import load, measure
from benchmarks.measure import Command, Row, Unusable
from benchmarks.setting import (
    KEY,
    MODEL,
    Bench,
    Home,
    Provider,
    answering,
    clean_environment,
    free_port,
    homes,
    provider,
    serving,
)

PATH = "/v1/chat/completions"
WORKERS, THREADS = 2, 128
RATE_CONNECTIONS = {0.0: 32, 0.2: 128}
LATENCY_CONNECTIONS = 4
START_SECONDS = 300
LITELLM = "litellm[proxy]"


@dataclass(frozen=True, slots=True)
class Turn:
    """The figures of one server in one turn: requests a second, and seconds."""

    rate: float
    median: float
    slowest: float  # the 99th percentile


def run(bench: Bench) -> Iterator[Row]:
    """Measure all three at each latency, streamed and not."""
    command = _install(bench)
    for latency, connections in RATE_CONNECTIONS.items():
        with (
            provider(bench, "--latency", str(latency)) as there,
            homes(bench, there) as places,
            serving(
                places["PostgreSQL"], "--workers", str(WORKERS), "--threads", str(THREADS)
            ) as ours,
            _proxy(bench, command, there) as peer,
        ):
            alone = there.base_url.removesuffix("/v1")
            for streamed in (False, True):
                what = f"{latency * 1000:.0f} ms, {'streamed' if streamed else 'whole'}"
                addresses = [alone, ours, peer]
                yield from _compare(bench, what, addresses, places, connections, streamed=streamed)


def _compare(  # noqa: PLR0913 - one call
    bench: Bench,
    what: str,
    addresses: list[str],
    places: dict[str, Home],
    connections: int,
    *,
    streamed: bool,
) -> Iterator[Row]:
    """The rows of one latency and one form."""
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"Who, {what}?"}],
            "stream": streamed,
        }
    ).encode()
    home, before, answered = places["PostgreSQL"], places["PostgreSQL"].count(), 0
    turns: list[list[Turn]] = []
    for number in range(-1, bench.size(3, 11)):
        figures = []
        for place, address in enumerate(addresses):
            turn, requests = _turn(bench, address, body, connections)
            figures.append(turn)
            answered += requests if place == 1 else 0
        if number >= 0:  # the first one does not count
            turns.append(figures)
    if home.count() - before != answered:
        raise Unusable(f"{answered} requests were answered, {home.count() - before} are on record.")
    alone, ours, peers = zip(*turns, strict=True)
    rates = [f"{median(turn.rate for turn in side):,.0f}" for side in (ours, peers, alone)]
    yield Row(
        f"{what}: requests a second, qa / LiteLLM",
        f"{rates[0]} : {rates[1]} (the provider alone {rates[2]})",
        [our.rate / peer.rate for our, peer in zip(ours, peers, strict=True)],
        2,
        most=False,
    )
    for label, name in (("median", "median"), ("99th percentile", "slowest")):
        base, added, others = (
            [getattr(turn, name) for turn in side] for side in (alone, ours, peers)
        )
        own = [item - start for item, start in zip(added, base, strict=True)]
        other = [item - start for item, start in zip(others, base, strict=True)]
        yield Row(
            f"{what}: added latency, {label}, qa / LiteLLM",
            f"{median(own) * 1000:.1f} : {median(other) * 1000:.1f} ms"
            f" (the provider alone {median(base) * 1000:.1f} ms)",
            [item / peer for item, peer in zip(own, other, strict=True)],
            0.5,
        )


def _turn(bench: Bench, address: str, body: bytes, connections: int) -> tuple[Turn, int]:
    """The figures of one server, and how many requests it has answered.

    Raises:
        Unusable: A request got another status than 200.
    """
    seconds = bench.size(3, 15)
    measure_load = partial(load.timed, address, PATH, body, key=KEY)
    fast = measure_load(connections=connections, seconds=seconds)
    # New connections each second: chance decides how many of them each worker process gets.
    parts = [measure_load(connections=LATENCY_CONNECTIONS, seconds=1) for _ in range(seconds)]
    calm = load.join(parts)
    if failed := fast.failed + calm.failed:
        raise Unusable(f"{failed} requests to {address} failed.")
    turn = Turn(fast.rate, calm.quantile(0.5), calm.quantile(0.99))
    return turn, len(fast.latencies) + len(calm.latencies)


def _install(bench: Bench) -> Command:
    """LiteLLM's proxy in an environment of its own, made by uv with the same Python."""
    path, uv = bench.place("litellm"), shutil.which("uv")
    if uv is None:
        raise Unusable("uv is needed, to install LiteLLM.")
    there = [uv, "-q", "--directory", str(path)]
    env = dict(os.environ)
    measure.run([*there, "venv", "--clear", "--python", sys.executable, path], env)
    into = ("--python", path / "bin" / "python")
    measure.run([*there, "pip", "install", *into, LITELLM], env, limit=600)
    return (path / "bin" / "litellm",)


@contextmanager
def _proxy(bench: Bench, command: Command, there: Provider) -> Iterator[str]:
    """LiteLLM's proxy in front of a provider; gives its address."""
    home, port = bench.home(), free_port()
    settings = home.path / "config.yaml"
    upstream = {"model": f"openai/{MODEL}", "api_base": there.base_url, "api_key": KEY}
    settings.write_text(
        json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": upstream}]})
    )
    own = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        # `qa serve` asks for no token either.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    proxy = Home(home.path, clean_environment() | own)
    options = ("--config", settings, "--host", "127.0.0.1", "--port", str(port))
    address = f"http://127.0.0.1:{port}"
    with answering(
        (*command, *options, "--num_workers", str(WORKERS)),
        proxy,
        address,
        "/health/liveliness",
        seconds=START_SECONDS,
    ):
        yield address
