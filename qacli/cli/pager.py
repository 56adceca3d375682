"""Show output that is longer than the screen in the user's pager.

The pager is started only when the output does not fit. It has the keyboard until it ends, with
Ctrl-C; leaving it early is no error. Typer's own Click has no `echo_via_pager`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import TextIOBase
from typing import TYPE_CHECKING, TextIO, cast

from qacli.cli.console import Console
from qacli.cli.signals import ignore_interrupt, restore_interrupt
from qacli.config.loader import environment
from qacli.config.settings import Settings

if TYPE_CHECKING:
    from subprocess import Popen

PAGER = "less -FRX"
NO_PAGER = {"", "cat"}


class PagerClosed(Exception):
    """The pager ended before it had read all the output."""


class _Pages(TextIOBase):
    """A stdout that is buffered until it is longer than the screen, and then goes to the pager.

    Args:
        console: The output without a pager.
        rows: The number of lines of the screen.
        command: The pager.
        env: Its environment.
    """

    def __init__(self, console: Console, rows: int, command: str, env: dict[str, str]) -> None:
        super().__init__()
        self._console = console
        self._rows = rows
        self._command = command
        self._env = env
        self._buffer: list[str] | None = []
        self._lines = 0
        self._pager: Popen[str] | None = None

    def isatty(self) -> bool:
        """Return True: the output of a pager is read by a person."""
        return True

    def write(self, text: str) -> int:
        """Buffer the text, or write it to the pager or the terminal."""
        if self._buffer is not None:
            self._buffer.append(text)
            self._lines += text.count("\n")
            if self._lines >= self._rows:
                self._start()
                self._flush_buffer()
        else:
            self._write_on(text)
        return len(text)

    def finish(self) -> None:
        """Print the buffered output, or wait for the end of the pager."""
        self._flush_buffer()
        if self._pager is not None:
            with suppress(BrokenPipeError):
                self._pager.communicate()

    def _start(self) -> None:
        import shlex
        import subprocess

        try:
            # Safe with threads: without preexec_fn, no Python runs between fork and exec.
            self._pager = subprocess.Popen(  # noqa: S603 - the user's own pager
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
        # Not before the start of the pager, which would inherit the setting.
        ignore_interrupt()

    def _flush_buffer(self) -> None:
        texts, self._buffer = self._buffer, None
        if texts:
            self._write_on("".join(texts))

    def _write_on(self, text: str) -> None:
        if self._pager is None:
            self._console.write(text, rendered=True)
            return
        stdin = cast("TextIO", self._pager.stdin)
        try:
            stdin.write(text)
            stdin.flush()
        except BrokenPipeError:
            raise PagerClosed from None


@contextmanager
def pager_output(
    console: Console, settings: Settings, *, enabled: bool = True
) -> Iterator[Console]:
    """Yield a console whose output goes through the pager if it does not fit on the screen.

    It is the same console if stdout is not a terminal, or the pager is not enabled.

    Raises:
        SystemExit: The reader of stdout has closed it, and there was no pager.
    """
    env = environment(LESS="FRX", LV="-c")
    command = settings.pager or env.get("PAGER", PAGER)
    if not enabled or not console.is_terminal or command in NO_PAGER or env.get("TERM") == "dumb":
        yield console
        return
    from shutil import get_terminal_size

    pages = _Pages(console, get_terminal_size().lines, command, env)
    with restore_interrupt(), suppress(PagerClosed):
        try:
            yield replace(console, stdout=cast("TextIO", pages))
        finally:
            pages.finish()
