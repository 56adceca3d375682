"""A server under load loses nothing: not when it is told to stop, nor when PostgreSQL restarts."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Postgres, Program
    from fake_provider import FakeProvider

Records = Callable[..., list[dict[str, Any]]]

CLIENTS = 24
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Load:
    """Clients that ask one question after the other, each in its own words, until told to stop.

    Attributes:
        answers: Each question and what came back; the status is 0 where the connection broke.
    """

    def __init__(self, served: Any, latency: float) -> None:
        self.answers: list[tuple[str, int, Any]] = []
        self._served = served
        self._latency = latency
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._clients = [self._pool.submit(self._ask) for _ in range(CLIENTS)]

    def _ask(self) -> None:
        while not self._stop.is_set():
            question = f"Question {next(self._numbers)} [[latency={self._latency}]]"
            try:
                status, body = self._served.ask(question)
            except (OSError, HTTPException, ValueError):
                status, body = 0, None
            self.answers.append((question, status, body))
            if status != 200:
                self._stop.wait(0.1)

    def count(self, status: int) -> int:
        return sum(each == status for _, each, _ in self.answers.copy())

    def stop(self) -> None:
        self._stop.set()
        for client in self._clients:
            client.result(40)
        self._pool.shutdown()


def under_load(served: Any, wait_for: Callable[..., Any]) -> Load:
    """Clients that ask all the time, once they are all being answered."""
    load = Load(served, 0.3)
    wait_for(lambda: load.count(200) > CLIENTS, 30)
    return load


def everything_is_on_record(
    found: list[dict[str, Any]], answers: list[tuple[str, int, Any]], provider: FakeProvider
) -> None:
    """Whatever was asked has one record, and whoever was given an answer finds it there."""
    on_record = Counter(record["question"] for record in found)
    assert set(on_record.values()) <= {1}
    asked = {request.question for request in provider.requests}
    assert asked <= set(on_record), "a question that left is lost"
    assert set(on_record) <= asked, "there is a record of what was not asked"
    assert {record["status"] for record in found} == {"answered"}
    records = {record["id"]: record for record in found}
    for question, status, body in answers:
        if status == 200:
            record = records[body["id"]]
            assert (record["question"], record["answer"]) == (question, f"Answer to: {question}")


def test_serve_stopped_under_load_records_every_answer(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, "--workers", "2")
    load = under_load(served, wait_for)
    assert served.told_to_stop() == 0
    load.stop()
    everything_is_on_record(records(database_url), load.answers, provider)
    assert "Traceback" not in "".join(served.log)


@on_sqlite
def test_serve_database_restart_under_load_loses_nothing(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    own_postgres: Postgres,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    own_postgres.psql("CREATE DATABASE loaded")
    url = own_postgres.get_uri("loaded")
    assert qa("migrate", DATABASE_URL=url).code == 0
    served = serve(qa, "--workers", "2", DATABASE_URL=url)
    load = under_load(served, wait_for)
    own_postgres.stop()
    try:
        wait_for(lambda: load.count(503) > CLIENTS, 30)
        assert served.request("GET", "/is_up")[0] == 200
    finally:
        own_postgres.start()
    before = load.count(200)
    wait_for(lambda: load.count(200) > before + CLIENTS, 30)
    load.stop()
    assert {status for _, status, _ in load.answers} == {200, 503}
    # What was answered while it was away has been delivered by the server itself.
    wait_for(lambda: {record["status"] for record in records(url)} == {"answered"}, 20)
    everything_is_on_record(records(url), load.answers, provider)


@on_sqlite
def test_serve_killed_workers_leave_records(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, "--workers", "2")
    load = under_load(served, wait_for)
    os.killpg(served.process.pid, signal.SIGKILL)
    load.stop()
    assert qa("list").code == 0
    found = records(database_url)
    assert {request.question for request in provider.requests} <= {r["question"] for r in found}
    assert {record["status"] for record in found} <= {"answered", "interrupted"}
    kept = {record["id"]: record["answer"] for record in found}
    for question, status, body in load.answers:
        if status == 200:
            assert kept[body["id"]] == f"Answer to: {question}"
