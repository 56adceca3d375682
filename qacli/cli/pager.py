"""Output that is longer than the screen goes through the pager that the person has chosen.

Nothing is started before it is needed: what fits is printed as ever. The pager has the keyboard
until it ends, Ctrl-C too; who leaves it early has seen enough, and that is no error.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import TextIOBase
from typing import TYPE_CHECKING, TextIO, cast

from qacli.cli.console import Console
from qacli.config.loader import environment
from qacli.config.settings import Settings

if TYPE_CHECKING:
    from subprocess import Popen

PAGER = "less -FRX"
NONE = {"", "cat"}


class _LeftEarly(Exception):
    """The pager has ended before it had read everything."""


class _Pages(TextIOBase):
    """A stdout that is held back until it is longer than the screen, and then goes to the pager.

    Args:
        console: Where it goes as long as there is no pager.
        rows: How many lines the screen has.
        command: The pager.
        env: Its environment.
    """

    def __init__(self, console: Console, rows: int, command: str, env: dict[str, str]) -> None:
        super().__init__()
        self._console = console
        self._rows = rows
        self._command = command
        self._env = env
        self._held: list[str] | None = []
        self._lines = 0
        self._pager: Popen[str] | None = None

    def isatty(self) -> bool:
        """What a pager gets is for a person, as on a terminal."""
        return True

    def write(self, text: str) -> int:
        """Take text: held back, to the pager, or to the terminal where there is no pager."""
        if self._held is not None:
            self._held.append(text)
            self._lines += text.count("\n")
            if self._lines >= self._rows:
                self._start()
                self._let_go()
        else:
            self._pass_on(text)
        return len(text)

    def finish(self) -> None:
        """Print what is held back, or wait until the person has left the pager."""
        self._let_go()
        if self._pager is not None:
            with suppress(BrokenPipeError):
                self._pager.communicate()

    def _start(self) -> None:
        import shlex
        import subprocess

        try:
            # Safe beside threads: without preexec_fn, no Python runs between fork and exec.
            self._pager = subprocess.Popen(  # noqa: S603 - the person's own pager
                shlex.split(self._command),
                stdin=subprocess.PIPE,
                encoding=self._console.stdout.encoding or "utf-8",
                errors="backslashreplace",
                env=self._env,
            )
        except (OSError, ValueError, IndexError) as error:
            if self._command != PAGER:
                self._console.info(f"The pager {self._command!r} cannot be started: {error}.")
            return
        # Not before: the pager would inherit it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held:
            self._pass_on("".join(held))

    def _pass_on(self, text: str) -> None:
        if self._pager is None:
            self._console.write(text, rendered=True)
            return
        stdin = cast("TextIO", self._pager.stdin)
        try:
            stdin.write(text)
            stdin.flush()
        except BrokenPipeError:
            raise _LeftEarly from None


@contextmanager
def pager_output(console: Console, settings: Settings, *, wanted: bool = True) -> Iterator[Console]:
    """The terminal to print to; what does not fit on the screen goes through the pager.

    Without a terminal, and where no pager is wanted, it is the same terminal.

    Raises:
        SystemExit: Whoever read stdout has gone, and there was no pager.
    """
    env = environment(LESS="FRX", LV="-c")
    command = settings.pager or env.get("PAGER", PAGER)
    if not wanted or not console.is_terminal or command in NONE or env.get("TERM") == "dumb":
        yield console
        return
    from shutil import get_terminal_size

    pages = _Pages(console, get_terminal_size().lines, command, env)
    before = signal.getsignal(signal.SIGINT)
    try:
        with suppress(_LeftEarly):
            try:
                yield replace(console, stdout=cast("TextIO", pages))
            finally:
                pages.finish()
    finally:
        signal.signal(signal.SIGINT, before)
