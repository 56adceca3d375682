"""A server process, and a PostgreSQL that a test may stop."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from databases import read_records
from postgres_server import Postgres, postgres_server

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Program

Records = Callable[..., list[dict[str, Any]]]


class Served:
    """`qa serve` as a process in a group of its own, its log read all the while."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.log: list[str] = []
        self.port = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.decode())
            if found := re.match(r"Serving on http://127\.0\.0\.1:(\d+)\. ", self.log[-1]):
                self.port = int(found[1])

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return bool(self.port) and self.request("GET", "/is_up", timeout=5)[0] == 200
        except OSError:
            return False

    def request(
        self, method: str, path: str, body: object = None, timeout: float = 120
    ) -> tuple[int, Any]:
        """The status, and what the JSON is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with closing(connection):
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")

    def ask(self, question: str) -> tuple[int, Any]:
        """`POST /ask`."""
        return self.request("POST", "/ask", {"question": question})

    def wait(self, seconds: float = 120) -> int:
        """The exit code, once it has ended."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def told_to_stop(self, seconds: float = 120) -> int:
        """Tell it to stop; the exit code, once what it had in flight is finished."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def stop(self) -> None:
        """End it however it is."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        with suppress(ProcessLookupError):  # a worker that outlived it
            os.killpg(self.process.pid, signal.SIGKILL)
        self._reader.join(15)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process.wait()


@contextmanager
def started(qa: Program, *arguments: str, **env: str) -> Iterator[Served]:
    """`qa serve` on any port, which may not answer yet; ended with the context."""
    served = Served(qa.start("serve", "--port", "0", *arguments, env=env, start_new_session=True))
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture
def start_serve() -> Callable[..., AbstractContextManager[Served]]:
    """Starts `qa serve` without waiting for it."""
    return started


@pytest.fixture
def serve(wait_for: Callable[..., Any]) -> Iterator[Callable[..., Served]]:
    """Starts `qa serve` on any port, and waits until it answers."""
    with ExitStack() as stack:

        def start(qa: Program, *arguments: str, **env: str) -> Served:
            served = stack.enter_context(started(qa, *arguments, **env))
            wait_for(lambda: served.process.poll() is not None or served.port, 120)
            assert served.process.poll() is None, served.log
            # Once it has said where it is, it can be reached.
            assert served.request("GET", "/is_up")[0] == 200
            return served

        yield start


@pytest.fixture
def records() -> Records:
    """Reads all records of a database."""
    return read_records


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that a test may stop, as long as it starts it again."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a provider may write what it was asked."""
    return tmp_path / "provider.log"
