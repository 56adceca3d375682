"""A line on stderr that moves while a program waits: a name, the seconds, the model's reasoning."""

from contextlib import contextmanager, suppress
from threading import Event, RLock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Self, TextIO

from qacli.cli.text_width import cell_width, fit_to_width
from qacli.config.loader import environment
from qacli.sanitize import sanitize, unfiltered

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_SECONDS = 0.2
"""An answer that begins sooner needs no line."""

FRAME_SECONDS = 0.1
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_FRAMES = "|/-\\"
LINUX_CONSOLE = "linux"
"""The value of TERM on the console of Linux, whose fonts have no Braille."""

MAX_LATEST_CHARACTERS = 1000
"""Characters of reasoning that are kept for the line with its latest words."""

ERASE = "\r\x1b[2K"
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class StatusLine:
    """A line that is drawn from a thread, so that it moves while modules load.

    Args:
        stream: The terminal that the line is on.
        awaited: The model that is asked, or another name for the awaited answer.
    """

    def __init__(self, stream: TextIO, awaited: str) -> None:
        self._stream = unfiltered(stream)
        self._awaited = awaited
        self._start = monotonic()
        self._reasoning = ""
        self._lock = RLock()
        self._ended = Event()
        self._drawn = False
        self._number = 0
        encoding = (getattr(self._stream, "encoding", None) or "ascii").lower()
        has_braille = encoding.startswith("utf") and environment().get("TERM") != LINUX_CONSOLE
        self._frames = FRAMES if has_braille else ASCII_FRAMES
        self._thread = Thread(target=self._run, name="qa-status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def add_reasoning(self, text: str) -> None:
        """Show the latest words of the reasoning from now on."""
        with self._lock:
            is_first = not self._reasoning
            self._reasoning = (self._reasoning + text)[-MAX_LATEST_CHARACTERS:]
        if is_first:
            self._draw()

    def end(self) -> None:
        """Remove the line; it is not drawn again."""
        self._ended.set()
        self._erase()

    @contextmanager
    def paused(self) -> "Iterator[None]":
        """Remove the line while other text is written; it is drawn again below that text."""
        with self._lock:
            self._erase()
            yield

    def _run(self) -> None:
        delay = FIRST_SECONDS
        with suppress(OSError, ValueError):  # the terminal is gone
            while not self._ended.wait(delay):
                self._draw()
                delay = FRAME_SECONDS

    def _draw(self) -> None:
        from shutil import get_terminal_size

        with self._lock:
            if self._ended.is_set():
                return
            self._number += 1
            width = get_terminal_size().columns - 1
            text = fit_to_width(self._text(width), width).rstrip()
            self._stream.write(f"{ERASE}{DIM}{text}{PLAIN}")
            self._stream.flush()
            self._drawn = True

    def _text(self, width: int) -> str:
        frame = self._frames[self._number % len(self._frames)]
        seconds = int(monotonic() - self._start)
        start = sanitize(f"{frame} {self._awaited} {seconds} s")
        if not self._reasoning:
            return start
        return latest_words(sanitize(self._reasoning), width, f"{start}  ")

    def _erase(self) -> None:
        with self._lock, suppress(OSError, ValueError):
            if self._drawn:
                self._drawn = False
                self._stream.write(ERASE)
                self._stream.flush()


def latest_words(reasoning: str, width: int, start: str) -> str:
    """Return one line, at most `width` cells wide, with the end of the reasoning after `start`."""
    text = " ".join(reasoning.split())
    while text and cell_width(start) + cell_width(text) > width:
        text = text[max((cell_width(text) + cell_width(start) - width) // 2, 1) :]
    return fit_to_width(start + text, width).rstrip()
