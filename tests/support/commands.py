"""Run `qa` as a process or in this process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from forked_program import PROGRAM, ForkedPopen

from qacli.cli.app import run
from qacli.cli.console import Console


@dataclass
class Program:
    """Run `qa` as a process.

    Attributes:
        env: Variables of the environment of each process.
        popen: Starts a process: quickly, or `subprocess.Popen` for the installed program.
    """

    env: dict[str, str] = field(default_factory=dict)
    popen: type[subprocess.Popen[Any]] = ForkedPopen

    @property
    def command(self) -> list[str]:
        return [str(PROGRAM)]

    def environ(self, **env: str) -> dict[str, str]:
        return {**os.environ, **self.env, **env}

    def __call__(
        self,
        *arguments: str,
        input: str | bytes = b"",
        timeout: float = 240,
        **env: str,
    ) -> Finished:
        data = input.encode() if isinstance(input, str) else input
        with self.start(*arguments, env=env, stdin=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(data, timeout)
            except BaseException:
                process.kill()
                raise
        return Finished(process.returncode, out.decode(), err.decode())

    def start(self, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> Any:
        """Start a process without waiting for its end; `options` are those of `Popen`."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.popen(
            [*self.command, *arguments],
            env=self.environ(**(env or {})),
            **{**pipes, **options},
        )


@dataclass
class Invoke:
    """Run `qa` in this process, with the calls of a `Program`: it needs no time to start.

    Tests of signals, pipes or a controlling terminal use a `Program`.

    Attributes:
        env: Variables of the environment of each call.
    """

    env: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str, input: str | bytes = b"", terminal: bool = False, **env: str
    ) -> Finished:
        """Run a command line.

        Args:
            arguments: The command line, without `qa`.
            input: Standard input.
            terminal: Whether all three streams are terminals.
            env: Variables of the environment of this call.
        """
        data = input.encode() if isinstance(input, str) else input
        buffers = [_Stream(data), _Stream(), _Stream()]
        for buffer in buffers:
            buffer.terminal = terminal
        stdin, stdout, stderr = (
            io.TextIOWrapper(buffer, "utf-8", errors="backslashreplace", newline="")
            for buffer in buffers
        )
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self.env, **env}.items():
                patch.setenv(name, value)
            # --profile sets this variable for the programs that a command starts: restore it.
            patch.setenv("QA_PROFILE", os.environ.get("QA_PROFILE", ""))
            for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                patch.setattr(sys, name, stream)
            try:
                code = run([*arguments], console=Console(stdin, stdout, stderr))
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        stdout.flush()
        stderr.flush()
        return Finished(code, *(buffer.getvalue().decode() for buffer in buffers[1:]))


class _Stream(io.BytesIO):
    terminal = False

    def isatty(self) -> bool:
        return self.terminal


@dataclass
class Finished:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str
