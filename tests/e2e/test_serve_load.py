"""A server under load loses no answer when it stops or dies, or when PostgreSQL restarts."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import pytest
from postgres_server import stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Postgres, Program, Records
    from fake_provider import FakeProvider

CLIENTS = 24
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Load:
    """Clients in threads, each of which asks one question after the other until `stop`.

    Attributes:
        responses: Each question with the status and the body; the status is 0 if no response came.
    """

    def __init__(self, served: Any, latency: float) -> None:
        self.responses: list[tuple[str, int, Any]] = []
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
            self.responses.append((question, status, body))
            if status != 200:
                self._stop.wait(0.1)

    def count(self, status: int) -> int:
        return sum(each == status for _, each, _ in self.responses.copy())

    def stop(self) -> None:
        self._stop.set()
        for client in self._clients:
            client.result(40)
        self._pool.shutdown()


def start_load(served: Any, wait_for: Callable[..., Any]) -> Load:
    """Start the clients, and wait until all of them get answers."""
    load = Load(served, 0.3)
    wait_for(lambda: load.count(200) > CLIENTS, 30)
    return load


def check_records(
    records: list[dict[str, Any]], responses: list[tuple[str, int, Any]], provider: FakeProvider
) -> None:
    """Check that each question sent has one answered record, which is also that of its response."""
    counts = Counter(record["question"] for record in records)
    assert set(counts.values()) <= {1}
    sent = {request.question for request in provider.requests}
    assert sent <= set(counts), "a question was sent, but not recorded"
    assert set(counts) <= sent, "a question was recorded, but not sent"
    assert {record["status"] for record in records} == {"answered"}
    by_id = {record["id"]: record for record in records}
    for question, status, body in responses:
        if status == 200:
            record = by_id[body["id"]]
            assert (record["question"], record["answer"]) == (question, f"Answer to: {question}")


def test_serve_stopped_under_load_records_every_answer(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, "--workers", "2")
    load = start_load(served, wait_for)
    assert served.terminate() == 0
    load.stop()
    check_records(records(), load.responses, provider)
    assert "Traceback" not in "".join(served.log)


@on_sqlite
def test_serve_database_restart_under_load_loses_nothing(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    own_postgres: Postgres,
    own_postgres_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, "--workers", "2", DATABASE_URL=own_postgres_url)
    load = start_load(served, wait_for)
    with stopped(own_postgres):
        wait_for(lambda: load.count(503) > CLIENTS, 30)
        assert served.request("GET", "/is_up")[0] == 200
    before = load.count(200)
    wait_for(lambda: load.count(200) > before + CLIENTS, 30)
    load.stop()
    assert {status for _, status, _ in load.responses} == {200, 503}
    # The server itself delivers the answers that arrived while the database was down.
    wait_for(lambda: {each["status"] for each in records(own_postgres_url)} == {"answered"}, 20)
    check_records(records(own_postgres_url), load.responses, provider)


@on_sqlite
def test_serve_killed_workers_leave_records(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, "--workers", "2")
    load = start_load(served, wait_for)
    os.killpg(served.process.pid, signal.SIGKILL)
    load.stop()
    assert qa("list").code == 0
    sent = {request.question for request in provider.requests}
    assert sent <= {record["question"] for record in records()}
    assert {record["status"] for record in records()} <= {"answered", "interrupted"}
    answers = {record["id"]: record["answer"] for record in records()}
    for question, status, body in load.responses:
        if status == 200:
            assert answers[body["id"]] == f"Answer to: {question}"
