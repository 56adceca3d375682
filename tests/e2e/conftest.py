"""Processes of `qa serve`, a PostgreSQL server that a test may stop, and the log of a provider."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import threading
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from fake_provider import FakeProvider, Reply
from postgres_server import Postgres, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Program


class ServerProcess:
    """A process of `qa serve` in a process group of its own; a thread reads its log.

    Attributes:
        log: The lines of stderr so far.
        port: The port from the log; 0 until the server listens.
    """

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
            if match := re.match(r"Serving on http://127\.0\.0\.1:(\d+)\. ", self.log[-1]):
                self.port = int(match[1])

    def is_up(self) -> bool:
        """Return whether the server answers."""
        try:
            return bool(self.port) and self.request("GET", "/is_up", timeout=5)[0] == 200
        except OSError:
            return False

    def request(
        self, method: str, path: str, body: object = None, timeout: float = 120
    ) -> tuple[int, Any]:
        """Send a request; return the status and the parsed JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with closing(connection):
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")

    def ask(self, question: str) -> tuple[int, Any]:
        """Send `POST /ask`; return the status and the record or the problem."""
        return self.request("POST", "/ask", {"question": question})

    def wait(self, seconds: float = 120) -> int:
        """Wait for the end of the process, and return its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def terminate(self, seconds: float = 120) -> int:
        """Stop the server with SIGTERM, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def close(self) -> None:
        """End the process and its workers, with SIGKILL if SIGTERM does not, and its pipes."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        with suppress(ProcessLookupError):  # there is no worker left
            os.killpg(self.process.pid, signal.SIGKILL)
        self._reader.join(15)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process.wait()


@contextmanager
def server_process(qa: Program, *arguments: str, **env: str) -> Iterator[ServerProcess]:
    """Run `qa serve` on a free port inside the context, without waiting until it answers."""
    process = qa.start("serve", "--port", "0", *arguments, env=env, start_new_session=True)
    with closing(ServerProcess(process)) as server:
        yield server


@pytest.fixture
def start_serve() -> Callable[..., AbstractContextManager[ServerProcess]]:
    """Return `server_process`, which starts `qa serve` and does not wait until it answers."""
    return server_process


@pytest.fixture
def serve(wait_for: Callable[..., Any]) -> Iterator[Callable[..., ServerProcess]]:
    """Return a function that starts `qa serve` on a free port, and waits until it answers."""
    with ExitStack() as stack:

        def start(qa: Program, *arguments: str, **env: str) -> ServerProcess:
            server = stack.enter_context(server_process(qa, *arguments, **env))
            wait_for(lambda: server.process.poll() is not None or server.port, 120)
            assert server.process.poll() is None, server.log
            # A server that has printed its address accepts requests.
            assert server.request("GET", "/is_up")[0] == 200
            return server

        yield start


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that a test may stop, as long as it starts it again."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def own_postgres_url(own_postgres: Postgres, qa: Program) -> str:
    """The URL of a new, migrated database of `own_postgres`."""
    name = f"qa_{uuid4().hex}"
    own_postgres.psql(f"CREATE DATABASE {name}")
    url = own_postgres.get_uri(name)
    assert qa("migrate", DATABASE_URL=url).code == 0
    return url


@pytest.fixture
def release_answers(provider: FakeProvider) -> Iterator[Callable[[], None]]:
    """Let the provider hold back its answers; return a function that lets it send them."""
    is_released = threading.Event()

    def answer(_request: object) -> Reply:
        assert is_released.wait(120)
        return Reply()

    provider.default = answer
    yield is_released.set
    is_released.set()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The path for the log of a provider: the questions that it gets."""
    return tmp_path / "provider.log"


@pytest.fixture
def wait_for_text(home: Path, wait_for: Callable[..., Any]) -> Callable[[str], None]:
    """Return a function that waits until a text of an answer is in a journal of the outbox."""

    def is_in_a_journal(text: str) -> bool:
        paths = [path for path in (home / "data").glob("**/*outbox/**/*") if path.is_file()]
        return any(text in path.read_text() for path in paths)

    return lambda text: wait_for(lambda: is_in_a_journal(text))
