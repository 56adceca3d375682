from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from qacli.web.app import MAX_BODY

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Postgres, Program
    from fake_provider import FakeProvider

Records = Callable[..., list[dict[str, Any]]]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can see to it")


def test_serve_question_is_listed_by_the_command_line(
    qa: Program, serve: Callable[..., Any]
) -> None:
    served = serve(qa)
    status, record = served.ask("Who am I?")
    assert (status, record["answer"]) == (200, "Answer to: Who am I?")
    assert served.request("GET", "/is_ready")[0] == 200
    assert json.loads(qa("list", "--json").out) == [record]
    assert served.told_to_stop() == 0
    assert served.process.stdout.read() == b""
    assert "Traceback" not in "".join(served.log)


def chunked(port: int, data: bytes) -> tuple[int, bytes]:
    """POST without a declared length; the status and the head of the response."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(
            b"POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        with suppress(OSError):  # refused before all was sent, perhaps
            connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return int(answer.split(b" ", 2)[1]), answer


@on_sqlite
def test_serve_chunked_body_is_limited(
    qa: Program, serve: Callable[..., Any], provider: FakeProvider
) -> None:
    served = serve(qa)
    assert chunked(served.port, b'{"question": "Chunked?"}')[0] == 200
    # Cut at the limit it would be another question, and a valid one.
    data = b'{"question": "x"}'
    status, answer = chunked(served.port, data + b" " * MAX_BODY + b'{"question": "y"}')
    assert status == 413
    assert b"application/problem+json" in answer
    assert [request.question for request in provider.requests] == ["Chunked?"]
    assert served.ask("Still there?")[0] == 200


@pytest.mark.parametrize("whole_group", [False, True], ids=["sigterm", "ctrl-c"])
def test_serve_stopped_finishes_requests_in_flight(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
    *,
    whole_group: bool,
) -> None:
    served = serve(qa)
    questions = [f"Who is {number}? [[latency=1.5]]" for number in range(20)]
    with ThreadPoolExecutor(len(questions)) as pool:
        answers = [pool.submit(served.ask, question) for question in questions]
        wait_for(lambda: len(provider.requests) == len(questions))
        if whole_group:
            os.killpg(served.process.pid, signal.SIGINT)
        else:
            served.process.send_signal(signal.SIGTERM)
        assert [answer.result()[0] for answer in answers] == [200] * len(questions)
    assert served.wait() in {0, 130}
    found = records(database_url)
    assert sorted(record["question"] for record in found) == sorted(questions)
    assert {record["status"] for record in found} == {"answered"}
    assert "Traceback" not in "".join(served.log)


@on_linux
@on_sqlite
def test_serve_killed_main_process_frees_the_port(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, "Who? [[latency=1.5]]")
        wait_for(lambda: provider.requests)
        served.process.kill()
        assert served.process.wait(10) == -signal.SIGKILL
        wait_for(lambda: not listening(served.port), 10)
        # What the worker had in flight, it finishes.
        assert answer.result(20)[0] == 200
    assert [record["status"] for record in records(database_url)] == ["answered"]
    assert serve(qa, "--port", str(served.port)).ask("And now?")[0] == 200


def test_serve_killed_records_requests_as_interrupted(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, "Who? [[stall=2]]")
        wait_for(lambda: provider.requests)
        sleep(0.3)  # the first words arrive
        os.killpg(served.process.pid, signal.SIGKILL)
        assert answer.exception(20) is not None
    assert [record["status"] for record in records(database_url)] == ["asking"]
    assert qa("list").code == 0
    [record] = records(database_url)
    assert (record["status"], record["answer"]) == ("interrupted", "Answer to:")


@on_sqlite
def test_serve_hung_question_is_interrupted_after_the_grace(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, QA_GRACE="1")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, "Who? [[stall=2]]")
        wait_for(lambda: provider.requests)
        sleep(0.3)  # the first words arrive
        began = monotonic()
        served.told_to_stop()
        assert monotonic() - began < 6
        assert answer.exception(20) is not None
    assert qa("list").code == 0
    [record] = records(database_url)
    assert (record["status"], record["answer"]) == ("interrupted", "Answer to:")


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@on_sqlite
def test_serve_port_in_use_prints_one_line(qa: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = qa("serve", "--port", port)
    assert (done.code, done.out) == (3, "")
    assert done.err.count("\n") == 1
    assert f"port {port}" in done.err


@on_sqlite
def test_serve_port_of_another_server_is_refused(qa: Program, serve: Callable[..., Any]) -> None:
    served = serve(qa)
    done = qa("serve", "--port", str(served.port))
    assert (done.code, done.err.count("\n")) == (3, 1)


@pytest.mark.usefixtures("empty_database")
@on_sqlite
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - what is to be refused
def test_serve_public_host_without_a_token_is_refused(qa: Program, home: Path, host: str) -> None:
    done = qa("serve", "--host", host, "--port", "0")
    assert (done.code, done.out) == (3, "")
    assert "QA_TOKEN" in done.err
    assert done.err.count("\n") == 1
    assert not (home / "data").exists()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_serve_without_its_database_exits(qa: Program) -> None:
    done = qa("serve", "--port", "0", DATABASE_URL="postgresql://user@127.0.0.1:1/none")
    assert (done.code, done.out) == (7, "")


@on_sqlite
def test_serve_database_down_loses_nothing(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    own_postgres: Postgres,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    own_postgres.psql("CREATE DATABASE served")
    url = own_postgres.get_uri("served")
    assert qa("migrate", DATABASE_URL=url).code == 0
    served = serve(qa, DATABASE_URL=url)
    question = "Who am I? [[latency=2.5]]"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, question)
        wait_for(lambda: provider.requests)
        own_postgres.stop()
        try:
            status, record = answer.result(30)
            assert (status, record["answer"]) == (200, f"Answer to: {question}")
            # While it is away nothing new is asked, and the process says what is wrong.
            began = monotonic()
            status, problem = served.ask("Not now?")
            assert (status, problem["kind"]) == (503, "database")
            assert monotonic() - began < 10
            assert provider.asked("Not now?") == 0
            assert served.request("GET", "/is_up")[0] == 200
            assert served.request("GET", "/is_ready")[0] == 503
        finally:
            own_postgres.start()
    found = wait_for(
        lambda: [each for each in records(url) if each["status"] == "answered"], seconds=15
    )
    assert [each["question"] for each in found] == [question]
    assert [each["id"] for each in found] == [record["id"]]
    assert len(records(url)) == 1
    assert served.ask("And now?")[0] == 200
