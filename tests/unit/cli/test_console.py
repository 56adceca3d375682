"""Messages on a terminal."""

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from qacli.cli.console import Console


def test_warning_with_stdout_in_a_pipe_is_as_wide_as_its_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    with os.fdopen(master, "rb", buffering=0) as screen, os.fdopen(slave, "w") as stderr:
        Console(None, io.StringIO(), stderr).warning("The answer was cut at the limit.")
        text = screen.read(1000)
    assert text == b"The answer was cut\r\nat the limit.\r\n"
