"""Terminals for the tests of the command line: for a command that prints, and one with a user."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Invoke
from person import Person

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Program

_PART = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|(\x1b)|([\r\n\x08\x07])|([^\x1b\r\n\x08\x07]+)")


@dataclass
class Screen:
    """A terminal with the control sequences of Rich's live display; it keeps lines scrolled off.

    Attributes:
        rows: The height.
        lines: All lines, the scrolled-off ones first.
        row: The line of the cursor, an index of `lines`.
        column: The column of the cursor.
    """

    rows: int
    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0

    def show(self, output: str) -> str:
        """Process the output of a program, and return all lines."""
        for part in _PART.finditer(output):
            arguments, command, escape, control, text = part.groups()
            assert not escape, f"unsupported escape sequence: {output[part.start() :][:20]!r}"
            if command:
                self._command(arguments, command)
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif text:
                line = self.lines[self.row].ljust(self.column)
                after = line[self.column + len(text) :]
                self.lines[self.row] = line[: self.column] + text + after
                self.column += len(text)
        return "\n".join(line.rstrip() for line in self.lines)

    def _command(self, arguments: str, command: str) -> None:
        if command == "A":
            # The cursor stays on the screen: it cannot reach a line that has scrolled off.
            top = max(len(self.lines) - self.rows, 0)
            self.row = max(self.row - int(arguments or 1), top)
        elif command == "K":
            assert arguments == "2"
            self.lines[self.row] = ""
        else:
            assert command in "mhl", f"unsupported command: {arguments}{command}"


@dataclass
class Seen:
    """The exit code and the output of a command on terminals of `rows` lines."""

    code: int
    out: str
    err: str
    rows: int

    @property
    def screen(self) -> str:
        """The lines of standard output as the terminal shows them at the end."""
        return Screen(self.rows).show(self.out)


def on_terminal(
    qa: Program | Invoke, *arguments: str, columns: int = 80, rows: int = 24, **env: str
) -> Seen:
    """Run `qa` with stdout and stderr on two terminals."""
    if isinstance(qa, Invoke):
        size = {"COLUMNS": str(columns), "LINES": str(rows)}
        done = qa(*arguments, terminal=True, **{"TERM": "xterm-256color", **size, **env})
        out, err = (text.replace("\n", "\r\n") for text in (done.out, done.err))
        return Seen(done.code, out, err, rows)
    masters, slaves = zip(pty.openpty(), pty.openpty(), strict=True)
    for slave in slaves:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        modes = termios.tcgetattr(slave)
        modes[1] &= ~termios.ONLCR  # keep line ends as they were written
        termios.tcsetattr(slave, termios.TCSANOW, modes)
    environ = qa.environ(**{"TERM": "xterm-256color", **env})
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "CI"):
        environ.pop(name, None)
    process = qa.popen(
        [*qa.command, *arguments],
        stdin=slaves[0],
        stdout=slaves[0],
        stderr=slaves[1],
        env=environ,
        start_new_session=True,
    )
    for slave in slaves:
        os.close(slave)
    printed = [bytearray(), bytearray()]
    readers = [
        threading.Thread(target=_drain, args=pair) for pair in zip(masters, printed, strict=True)
    ]
    for reader in readers:
        reader.start()
    code = process.wait(240)
    for reader, master in zip(readers, masters, strict=True):
        reader.join(10)
        os.close(master)
    # Without ONLCR a newline does not return to the first column: add the carriage return.
    out, err = (bytes(each).decode().replace("\n", "\r\n") for each in printed)
    return Seen(code, out, err, rows)


def _drain(master: int, into: bytearray) -> None:
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # on Linux: the other end is closed
            return
        if not data:
            return
        into += data


@pytest.fixture
def console() -> Callable[..., Seen]:
    """Return `on_terminal`, which runs `qa` on terminals."""
    return on_terminal


@pytest.fixture
def at_terminal(qa: Program, wait_for: Callable[..., Any]) -> Iterator[Callable[..., Person]]:
    """Return a function that starts a command of `qa` on a terminal, with a user who types."""
    with ExitStack() as stack:

        def start(*arguments: str, out: int | None = None, **env: str) -> Person:
            return stack.enter_context(closing(Person(wait_for, qa, *arguments, out=out, **env)))

        yield start
