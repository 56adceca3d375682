"""A server of several processes: common counts, limits, sessions and log."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program
    from fake_provider import FakeProvider

# One database: nothing here depends on its kind.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def call(port: int, method: str, path: str, token: str, body: object = None) -> tuple[int, str]:
    """Send a request on a new connection, which any of the processes may accept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def metrics(port: int) -> dict[str, float]:
    """Return the metrics by name; the samples of all labels are added up."""
    status, text = call(port, "GET", "/metrics", "secret-of-the-scraper")
    assert status == 200, text
    values: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] += sample.value
    return values


def status_of(port: int, data: bytes) -> int:
    """Send the bytes of a request, and return the status of the response."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        return int(connection.recv(1000).split(b" ", 2)[1])


def test_workers_limit_and_count_questions_together(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    wait_for: Callable[..., Any],
) -> None:
    tokens = "alice=secret-of-the-alice,bob=secret-of-the-bob,admin:scraper=secret-of-the-scraper"
    served = serve(qa, QA_WORKERS="2", QA_TOKENS=tokens, QA_RATE_LIMIT="6/day")

    def ask(question: str, caller: str = "alice") -> int:
        return call(served.port, "POST", "/ask", f"secret-of-the-{caller}", {"question": question})[
            0
        ]

    with ThreadPoolExecutor(10) as pool:
        statuses = Counter(pool.map(ask, [f"Who is {number}?" for number in range(10)]))
    # Each worker takes half of the limit, and may get more than half of the requests.
    answered = statuses[200]
    assert 3 <= answered <= 6
    assert statuses == {200: answered, 429: 10 - answered}
    assert len(provider.requests) == answered
    # Each process returns the counts of all.
    for _ in range(10):
        assert metrics(served.port)["qa_questions_total"] == answered
    requests = metrics(served.port)["qa_http_requests_total"]

    # The questions in flight of a killed process are no longer counted; its totals stay.
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, "Who? [[stall=1]]", "bob")
        wait_for(lambda: metrics(served.port)["qa_questions_in_flight"] == 1)
        for worker in workers_of(served.process.pid):
            os.kill(worker, signal.SIGKILL)
        assert answer.exception(20) is not None
    wait_for(served.is_up, 30)
    values = metrics(served.port)
    assert values["qa_questions_in_flight"] == 0
    assert values["qa_http_requests_in_flight"] == 1
    assert values["qa_questions_total"] == answered
    assert values["qa_http_requests_total"] > requests

    # The length and the number of headers are limited.
    start = b"GET /is_up HTTP/1.1\r\nHost: localhost\r\n"
    many = b"".join(b"X-%d: a\r\n" % number for number in range(200))
    assert status_of(served.port, start + b"X-A: " + b"a" * 30_000 + b"\r\n\r\n") == 200
    assert status_of(served.port, start + b"X-A: " + b"a" * 400_000 + b"\r\n\r\n") == 431
    assert status_of(served.port, start + many + b"\r\n") == 431

    assert served.terminate() == 0
    log = "".join(served.log)
    lines = [json.loads(line) for line in served.log if line.startswith("{")]
    ids = [line["request_id"] for line in lines if "path" in line]
    asked = [line for line in lines if line.get("path") == "/ask"]
    assert Counter(line["status"] for line in asked) == {200: answered, 429: 10 - answered}
    assert {line["caller"] for line in asked} == {"alice"}
    assert len(set(ids)) == len(ids)
    for secret in (KEY, "secret-", "Who is", "Still too often"):
        assert secret not in log


def test_workers_starting_process_does_not_delay_the_stop(
    qa: Program, serve: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    served = serve(qa)
    (before,) = workers_of(served.process.pid)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: set(workers_of(served.process.pid)) - {before})
    served.terminate(20)  # less than the grace period for questions in flight


def workers_of(main: int) -> list[int]:
    """Return the ids of the worker processes of a server."""
    with open(f"/proc/{main}/task/{main}/children") as file:  # noqa: PTH123 - shorter than with Path
        return [int(pid) for pid in file.read().split()]


RECORD_FORKS = """
import os, sys

def record(event, _arguments):
    if event == "os.fork":
        with open(os.environ["TEST_FORKS"], "a") as file:
            print(*os.listdir("/proc/self/task"), file=file)

sys.addaudithook(record)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the threads of a process")
def test_workers_forked_process_has_one_thread(
    qa: Program, serve: Callable[..., Any], wait_for: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(RECORD_FORKS)
    forks = tmp_path / "forks"
    env = {"PYTHONPATH": str(tmp_path), "TEST_FORKS": str(forks), "QA_WORKERS": "2"}
    served = serve(qa, **env)
    wait_for(lambda: len(workers_of(served.process.pid)) == 2)
    for worker in workers_of(served.process.pid):
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda worker=worker: worker not in workers_of(served.process.pid), 30)
    wait_for(lambda: len(workers_of(served.process.pid)) == 2, 30)
    wait_for(served.is_up, 30)
    # The one thread at each fork is the main thread, whose id is the id of the process.
    assert forks.read_text().splitlines() == [str(served.process.pid)] * 4
    assert served.terminate() == 0
    assert "".join(served.log).count("ended unexpectedly") == 2
    assert "".join(served.log).count("Serving on") == 1


def test_workers_browser_session_works_in_all_and_after_restart(
    qa: Program, serve: Callable[..., Any]
) -> None:
    token = "secret-of-the-browser"
    settings = {"QA_WORKERS": "2", "QA_TOKENS": f"alice={token}"}

    def send(port: int, method: str, path: str, cookie: str = "", body: str = "") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with closing(connection):
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            return response

    def statuses(port: int, cookie: str) -> set[int]:
        return {send(port, "GET", "/qas", cookie).status for _ in range(20)}

    served = serve(qa, **settings)
    signed_in = send(served.port, "POST", "/sign-in", body=f"token={token}")
    assert signed_in.status == 303
    cookie = signed_in.headers["Set-Cookie"].partition(";")[0]
    assert token not in cookie
    assert statuses(served.port, cookie) == {200}
    assert served.terminate() == 0
    served = serve(qa, **settings)
    assert statuses(served.port, cookie) == {200}
    assert send(served.port, "POST", "/sign-out", cookie).status == 303
    assert statuses(served.port, cookie) == {401}
    assert served.terminate() == 0
    served = serve(qa, **settings)
    assert statuses(served.port, cookie) == {401}
