"""Messages on a terminal."""

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from qacli.cli.console import Console
from qacli.cli.formatters import console_on


class Tty(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


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


def test_console_without_cursor_control_has_the_width_of_the_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "10")
    assert tuple(console_on(Tty()).size) == (40, 10)


@pytest.mark.parametrize(
    ("file", "text"), [("Tty", "one two\nthree\n"), ("StringIO", "one two three\n")]
)
def test_print_message_on_a_narrow_terminal_breaks_between_words(
    monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    monkeypatch.setenv("COLUMNS", "8")
    stdout = Tty() if file == "Tty" else io.StringIO()
    Console(None, stdout, io.StringIO()).print_message("one two three")
    assert stdout.getvalue() == text
