"""A user at a terminal, for commands that ask for input."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from typing import TYPE_CHECKING, Any

import pytest
from forked_program import ForkedPopen

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

ENTER, ESCAPE, TAB, UP, CTRL_C, CTRL_D = "\r", "\x1b", "\t", "\x1b[A", "\x03", "\x04"
PROMPT = "\n>"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Person:
    """A command on a new terminal, and its user, who reads the output and types.

    Args:
        wait_for: The fixture.
        qa: The program.
        arguments: The command line, without `qa`.
        out: Standard output, if that is not the terminal.
        env: Variables of the environment.
    """

    def __init__(
        self,
        wait_for: Callable[..., Any],
        qa: Program,
        *arguments: str,
        out: int | None,
        **env: str,
    ) -> None:
        self._wait_for = wait_for
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        environ = qa.environ(TERM="xterm-256color", PROMPT_TOOLKIT_NO_CPR="1", **env)
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "CI"):
            environ.pop(name, None)
        self.process = ForkedPopen(
            [*qa.command, *arguments],
            on_terminal=True,
            stdin=slave,
            stdout=slave if out is None else out,
            stderr=slave,
            env=environ,
        )
        self.modes = termios.tcgetattr(slave)
        self._slave = slave
        self._output = bytearray()
        self._read = 0
        self._reader = threading.Thread(target=self._drain)
        self._reader.start()

    def _drain(self) -> None:
        while data := os.read(self._master, 65536):
            self._output += data
            if data.endswith(b"\0"):
                return

    @property
    def output(self) -> str:
        return self._output.decode(errors="replace")

    @property
    def text(self) -> str:
        """Return the output without escape sequences and carriage returns."""
        return ESCAPES.sub("", self.output)

    @property
    def echoes(self) -> bool:
        """Return whether the terminal echoes typed text."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def see(self, text: str) -> str:
        """Wait until a text appears after the last one; return the text between the two."""
        try:
            start = self._wait_for(lambda: self.text.find(text, self._read) + 1, 60) - 1
        except AssertionError:
            pytest.fail(f"no {text!r} after {self.text[: self._read]!r} in {self.output!r}")
        before = self.text[self._read : start]
        self._read = start + len(text)
        return before

    def type(self, keys: str) -> None:
        """Type keys, without waiting."""
        os.write(self._master, keys.encode())

    def say(self, text: str) -> None:
        """Type a line at the next prompt of `qa chat`."""
        self.see(PROMPT)
        self.type(text + ENTER)

    def leave(self, keys: str = CTRL_D) -> int:
        """Type the keys at the next prompt of `qa chat`; return the exit code."""
        self.see(PROMPT)
        self.type(keys)
        return self.end()

    def end(self) -> int:
        """Wait for the end; check that the terminal has its modes again; return the exit code."""
        code = self.process.wait(60)
        assert termios.tcgetattr(self._slave)[:4] == self.modes[:4]
        return code

    def close(self) -> None:
        """End the command, if it runs, and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.write(self._slave, b"\0")
        self._reader.join(10)
        os.close(self._slave)
        os.close(self._master)
