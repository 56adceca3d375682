"""Clients that leave in the middle, or never wait, and servers that end meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Program
    from fake_provider import FakeProvider

Records = Callable[..., list[dict[str, Any]]]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SLOW = "a b c d e f [[delay=0.3]]"


def leave(
    port: int,
    body: dict[str, Any],
    *,
    after: bytes = b"",
    wait: Callable[[], object] = lambda: None,
    **headers: str,
) -> None:
    """Ask, and close the connection after these bytes have come and the wait is over."""
    data = json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join(
        [
            "POST /ask HTTP/1.1",
            "Host: localhost",
            "Content-Type: application/json",
            f"Content-Length: {len(data)}",
            *lines,
        ]
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + data)
        came = b""
        while after not in came:
            came += connection.recv(65536)
        wait()


def answers(records: Records, database_url: str) -> dict[str, tuple[str, str | None]]:
    """Status and answer by question."""
    found = records(database_url)
    return {each["question"]: (each["status"], each["answer"]) for each in found}


def test_serve_disconnected_client_keeps_the_answer(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    leave(served.port, {"question": SLOW, "stream": True}, after=b"delta")
    whole = f"{SLOW} [[latency=0.5]]"
    # A request whose client leaves before a thread has taken it is dropped, and not asked.
    leave(
        served.port,
        {"question": whole},
        wait=lambda: wait_for(lambda: len(provider.requests) == 2),
    )
    # Nobody is there any more; what is in flight is finished all the same.
    served.told_to_stop()
    assert answers(records, database_url) == {
        text: ("answered", f"Answer to: {text}") for text in (SLOW, whole)
    }
    assert "Traceback" not in "".join(served.log)


@on_sqlite
def test_serve_disconnected_client_can_interrupt(
    qa: Program,
    serve: Callable[..., Any],
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, QA_ON_DISCONNECT="interrupt")
    leave(served.port, {"question": SLOW, "stream": True}, after=b"delta")
    wait_for(lambda: answers(records, database_url)[SLOW][0] == "interrupted")
    answer = answers(records, database_url)[SLOW][1]
    assert answer is not None
    assert answer.startswith("Answer")
    assert not answer.endswith("]]")
    assert served.ask("Still there?")[0] == 200


def accepted(port: int, question: str) -> int:
    """Ask without waiting; the record's id."""
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
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    questions = [f"Who is {number}? [[latency=1]]" for number in range(5)]
    for question in questions:
        accepted(served.port, question)
    wait_for(lambda: len(provider.requests) == 5)
    assert served.told_to_stop() == 0
    assert answers(records, database_url) == {
        text: ("answered", f"Answer to: {text}") for text in questions
    }


def test_serve_killed_asks_accepted_questions_again(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    assert served.ask("Before?")[0] == 200
    ids = [accepted(served.port, f"Who is {number}? [[hang times=1]]") for number in range(3)]
    wait_for(lambda: len(provider.requests) == 4)
    os.killpg(served.process.pid, signal.SIGKILL)
    served.wait()
    # A command in between leaves them to the next server.
    assert qa("list").code == 0
    assert {each["status"] for each in records(database_url) if each["id"] in ids} == {"asking"}
    again = serve(qa)
    wait_for(lambda: {each["status"] for each in records(database_url)} == {"answered"}, 20)
    found = records(database_url)
    assert [each["id"] for each in found[1:]] == ids
    # Each twice, since each was in flight; and nothing else.
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
        found = list(pool.map(ask, range(16)))
    assert [status for status, _ in found] == [200] * 16
    assert len({json.dumps(record) for _, record in found}) == 1
    assert provider.asked(question) == 1
