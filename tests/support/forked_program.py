"""Start `qa` as a fork of a process that has imported its modules, so that no test waits for that.

It is a process like any other: with its own arguments, variables, folder, pipes and signals. It is
a child of the tests' process. On other systems than Linux the installed program is started.

As a program, `forked_program.py SOCKET` is the process that has imported the modules.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import json
import os
import pkgutil
import socket
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): the orphans among this process's descendants become its children."""

MAX_REQUEST_BYTES = 1 << 20

PROGRAM = Path(sys.executable).with_name("qa")

LOCALE_VARIABLES = frozenset({"LANG", "LC_ALL", "LC_CTYPE"})


LOADED_LATER = (
    *("alembic.command", "anyio._backends._asyncio", "encodings.ascii", "encodings.idna"),
    *("httpcore2", "rich.markdown", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite"),
    *("truststore", "typer._adapters", "typer.core", "typer.rich_utils"),
)
"""Modules that the dependencies load when a command needs them."""

ON_ITS_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
"""A program that begins a session on its terminal, and becomes the program of its arguments."""

STARTING = threading.Lock()
"""Held while the server is started."""


class ForkServer:
    """The process that has imported the modules of `qa`; it ends with the tests' process."""

    _instance: ForkServer | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__, str(other.fileno())]
        with other:
            self._process = subprocess.Popen(
                command,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    @classmethod
    def get(cls) -> ForkServer:
        """Return the server of this process, started with the first call."""
        with STARTING:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def start(self, request: dict[str, Any], files: list[int]) -> int:
        """Start a process.

        Args:
            request: Its `arguments`, `env`, `cwd`, `start_new_session` and `on_terminal`.
            files: Its standard input, output and error.

        Returns:
            Its id. The process is a child of this one.
        """
        with self._lock, orphans_become_children():
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            return int(self._socket.recv(64))


@contextmanager
def orphans_become_children() -> Iterator[None]:
    """Make orphans of this process's descendants its children inside the context."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class ForkedPopen(subprocess.Popen[Any]):
    """A `subprocess.Popen` of `qa` that forks, where that is the same as executing the program.

    Args:
        args: The command line.
        on_terminal: Begin a session which standard input, a terminal, controls: Ctrl-C on it is a
            signal for the process.
        options: As those of `subprocess.Popen`.
    """

    def __init__(self, args: list[str], *, on_terminal: bool = False, **options: Any) -> None:
        self._on_terminal = on_terminal
        super().__init__(args, **options)

    def _execute_child(self, args: list[str], executable: Any, *options: Any) -> None:
        """Start the child; `subprocess.Popen` calls it alike from Python 3.11 to 3.14."""
        preexec_fn, _close, pass_fds, cwd, env, _info, _flags, _shell, *rest = options
        variables = dict(os.environ if env is None else env)
        is_qa = Path(args[0]) == PROGRAM and not preexec_fn and not pass_fds
        if sys.platform != "linux" or not is_qa or is_read_at_start(variables):
            if self._on_terminal:
                args = [sys.executable, "-S", "-c", ON_ITS_TERMINAL, *args]
            super()._execute_child(args, executable, *options)
            return
        pipes = rest[:6]
        request = {
            "arguments": args,
            "env": variables,
            "cwd": str(cwd or Path.cwd()),
            "start_new_session": rest[-2] or self._on_terminal,
            "on_terminal": self._on_terminal,
        }
        inner_ends = (pipes[0], pipes[3], pipes[5])
        files = [number if end == -1 else end for number, end in enumerate(inner_ends)]
        try:
            self.pid = ForkServer.get().start(request, files)
        finally:
            self._close_pipe_fds(*pipes)  # the child's ends, as `subprocess.Popen` closes them
        self._child_created = True


def is_read_at_start(variables: dict[str, str]) -> bool:
    """Return whether a variable has an effect only when Python starts."""
    return any(
        value != os.environ.get(name)
        for name, value in variables.items()
        if name.startswith("PYTHON") or name in LOCALE_VARIABLES
    )


def main(connection: socket.socket) -> list[str]:
    """Serve requests; return in each child that is to run a command line, with the command line."""
    import qacli
    from qacli.config.network import resolve_route

    for module in pkgutil.walk_packages(qacli.__path__, "qacli."):
        import_module(module.name)
    for name in LOADED_LATER:
        import_module(name)
    resolve_route("https://localhost")  # reads the certificates of SSL_CERT_FILE
    assert threading.active_count() == 1, "a thread does not survive a fork"
    gc.collect()
    gc.freeze()
    while True:
        data, files, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 3)
        if not data:
            os._exit(0)
        reader, writer = os.pipe()
        # The process between the two ends at once, which makes the second one an orphan.
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child == 0:
                os.close(reader)
                os.close(writer)
                return become(json.loads(data), files)
            os.write(writer, str(child).encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(between, 0)
        connection.send(os.read(reader, 64))
        for file in (reader, *files):
            os.close(file)


def become(request: dict[str, Any], files: list[int]) -> list[str]:
    """Make this process the one of a request; return its command line."""
    if request["start_new_session"]:
        os.setsid()
    for target, file in enumerate(files):
        os.dup2(file, target)
    if request["on_terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - no path
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    arguments: list[str] = request["arguments"]
    return arguments


def run(command_line: list[str]) -> None:
    """Run a command line, and end this process as Python does, but without freeing its memory.

    To free the modules one by one takes as long as several commands.
    """
    from qacli.__main__ import main as qa

    sys.argv = command_line
    try:
        qa()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads
            atexit._run_exitfuncs()  # noqa: SLF001
            # If the output cannot be written, Python reports it.
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit((end.code or 0) & 0xFF)
        raise


if __name__ == "__main__":
    run(main(socket.socket(fileno=int(sys.argv[1]))))
