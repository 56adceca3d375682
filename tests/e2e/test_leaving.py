"""Clients that disconnect or do not wait for an answer, and servers that stop meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from batch_checks import check_answered_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program, Records
    from fake_provider import FakeProvider

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SLOW = "a b c d e f [[delay=0.3]]"


def ask_and_disconnect(
    port: int,
    body: dict[str, Any],
    *,
    after: bytes = b"",
    wait: Callable[[], object] = lambda: None,
) -> None:
    """Send `POST /ask`, and close the connection when `after` has arrived and `wait` has ended."""
    data = json.dumps(body).encode()
    head = (
        "POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode() + data)
        response = b""
        while after not in response:
            response += connection.recv(65536)
        wait()


def test_serve_disconnected_client_keeps_the_answer(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    ask_and_disconnect(served.port, {"question": SLOW, "stream": True}, after=b"delta")
    whole = f"{SLOW} [[latency=0.5]]"
    # Disconnect after it was asked: until then the server drops the request of a lost client.
    ask_and_disconnect(
        served.port,
        {"question": whole},
        wait=lambda: wait_for(lambda: len(provider.requests) == 2),
    )
    # The server finishes the answers, although their clients are gone.
    served.terminate()
    check_answered_once(records(), [SLOW, whole])
    assert "Traceback" not in "".join(served.log)


@on_sqlite
def test_serve_disconnected_client_can_interrupt(
    qa: Program,
    serve: Callable[..., Any],
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, QA_ON_DISCONNECT="interrupt")
    ask_and_disconnect(served.port, {"question": SLOW, "stream": True}, after=b"delta")
    wait_for(lambda: [record["status"] for record in records()] == ["interrupted"])
    [record] = records()
    assert record["question"] == SLOW
    answer = record["answer"]
    assert answer is not None
    assert answer.startswith("Answer")
    assert not answer.endswith("]]")
    assert served.ask("Still there?")[0] == 200


def ask_without_waiting(port: int, question: str) -> int:
    """Ask with `Prefer: respond-async`; return the id of the record."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        connection.request("POST", "/ask", json.dumps({"question": question}), headers)
        response = connection.getresponse()
        record = json.loads(response.read())
        assert response.status == 202, record
        assert response.headers["Location"] == f"/qa/{record['id']}"
        return int(record["id"])


@on_sqlite
def test_serve_stopped_finishes_accepted_questions(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    questions = [f"Who is {number}? [[latency=1]]" for number in range(5)]
    for question in questions:
        ask_without_waiting(served.port, question)
    wait_for(lambda: len(provider.requests) == 5)
    assert served.terminate() == 0
    check_answered_once(records(), questions)


def test_serve_killed_asks_accepted_questions_again(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    assert served.ask("Before?")[0] == 200
    ids = [
        ask_without_waiting(served.port, f"Who is {number}? [[hang times=1]]")
        for number in range(3)
    ]
    wait_for(lambda: len(provider.requests) == 4)
    os.killpg(served.process.pid, signal.SIGKILL)
    served.wait()
    # A command does not record them as interrupted: the next server asks them again.
    assert qa("list").code == 0
    assert {each["status"] for each in records() if each["id"] in ids} == {"asking"}
    again = serve(qa)
    wait_for(lambda: {each["status"] for each in records()} == {"answered"}, 20)
    assert [each["id"] for each in records()[1:]] == ids
    # Each of the three was in flight, so it was sent twice.
    assert len(provider.requests) == 7
    assert provider.asked("Before?") == 1
    assert again.ask("After?")[0] == 200


@on_sqlite
def test_serve_idempotency_key_is_asked_once_by_all_workers(
    qa: Program, serve: Callable[..., Any], provider: FakeProvider
) -> None:
    served = serve(qa, "--workers", "2")
    question = "Who? [[latency=0.5]]"

    def ask(_number: int) -> Any:
        with closing(
            http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        ) as connection:
            headers = {"Content-Type": "application/json", "Idempotency-Key": "one"}
            connection.request("POST", "/ask", json.dumps({"question": question}), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(ask, range(16)))
    assert [status for status, _ in responses] == [200] * 16
    assert len({json.dumps(record) for _, record in responses}) == 1
    assert provider.asked(question) == 1
