"""`qa serve` as a process: signals, its port, its database, and limits of requests."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from batch_checks import check_answered_once
from postgres_server import stopped

from qacli.web.app import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Postgres, Program, Records
    from fake_provider import FakeProvider

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="workers end with the main process on Linux only"
)


def test_serve_question_is_listed_by_the_command_line(
    qa: Program, serve: Callable[..., Any]
) -> None:
    served = serve(qa)
    status, record = served.ask("Who am I?")
    assert (status, record["answer"]) == (200, "Answer to: Who am I?")
    assert served.request("GET", "/is_ready")[0] == 200
    assert json.loads(qa("list", "--json").out) == [record]
    assert served.terminate() == 0
    assert served.process.stdout.read() == b""
    assert "Traceback" not in "".join(served.log)


def post_chunked(port: int, data: bytes) -> tuple[int, bytes]:
    """Send `POST /ask` without a Content-Length; return the status and the whole response."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(
            b"POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        with suppress(OSError):  # the server may refuse the body before its end
            connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        response = b""
        while part := connection.recv(65536):
            response += part
    return int(response.split(b" ", 2)[1]), response


@on_sqlite
def test_serve_chunked_body_is_limited(
    qa: Program, serve: Callable[..., Any], provider: FakeProvider
) -> None:
    served = serve(qa)
    assert post_chunked(served.port, b'{"question": "Chunked?"}')[0] == 200
    # A body cut off at the limit would be a valid question, but a wrong one.
    data = b'{"question": "x"}'
    status, response = post_chunked(served.port, data + b" " * MAX_BODY + b'{"question": "y"}')
    assert status == 413
    assert b"application/problem+json" in response
    assert [request.question for request in provider.requests] == ["Chunked?"]
    assert served.ask("Still there?")[0] == 200


@pytest.mark.parametrize("whole_group", [False, True], ids=["sigterm", "ctrl-c"])
def test_serve_stopped_finishes_requests_in_flight(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
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
    check_answered_once(records(), questions)
    assert "Traceback" not in "".join(served.log)


@on_linux
@on_sqlite
def test_serve_killed_main_process_frees_the_port(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, "Who? [[latency=1.5]]")
        wait_for(lambda: provider.requests)
        served.process.kill()
        assert served.process.wait(10) == -signal.SIGKILL
        wait_for(lambda: not is_listening(served.port), 10)
        # The worker finishes its requests in flight.
        assert answer.result(20)[0] == 200
    assert [record["status"] for record in records()] == ["answered"]
    assert serve(qa, "--port", str(served.port)).ask("And now?")[0] == 200


def test_serve_killed_records_requests_as_interrupted(
    qa: Program,
    serve: Callable[..., Any],
    records: Records,
    wait_for_text: Callable[[str], None],
) -> None:
    served = serve(qa)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, "Who? [[stall=2]]")
        wait_for_text("to:")
        os.killpg(served.process.pid, signal.SIGKILL)
        assert answer.exception(20) is not None
    assert [record["status"] for record in records()] == ["asking"]
    assert qa("list").code == 0
    [record] = records()
    assert (record["status"], record["answer"]) == ("interrupted", "Answer to:")


@on_sqlite
def test_serve_hung_question_is_interrupted_after_the_grace(
    qa: Program,
    serve: Callable[..., Any],
    records: Records,
    wait_for_text: Callable[[str], None],
) -> None:
    served = serve(qa, QA_GRACE="1")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, "Who? [[stall=2]]")
        wait_for_text("to:")
        served.terminate(seconds=20)
        assert answer.exception(20) is not None
    assert qa("list").code == 0
    [record] = records()
    assert (record["status"], record["answer"]) == ("interrupted", "Answer to:")


def is_listening(port: int) -> bool:
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
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - they are refused
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
    own_postgres_url: str,
    release_answers: Callable[[], None],
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, DATABASE_URL=own_postgres_url)
    question = "Who am I?"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, question)
        wait_for(lambda: provider.requests)
        with stopped(own_postgres):
            release_answers()
            status, record = answer.result(30)
            assert (status, record["answer"]) == (200, f"Answer to: {question}")
            # Without the database nothing new is asked, and the error names the reason.
            status, problem = served.request("POST", "/ask", {"question": "Not now?"}, timeout=20)
            assert (status, problem["kind"]) == (503, "database")
            assert provider.asked("Not now?") == 0
            assert served.request("GET", "/is_up")[0] == 200
            assert served.request("GET", "/is_ready")[0] == 503
    wait_for(lambda: [each["status"] for each in records(own_postgres_url)] == ["answered"], 15)
    [stored] = records(own_postgres_url)
    assert (stored["id"], stored["question"]) == (record["id"], question)
    assert served.ask("And now?")[0] == 200
