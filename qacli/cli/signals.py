"""Ctrl-C in a program that goes on after it, and keys that are typed while nobody reads them."""

import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Self, TextIO


class DeferredInterrupt:
    """Ctrl-C as a request to stop what may be stopped, instead of everything.

    An answer that is being kept, or a module that is being loaded, must not be cut off in the
    middle by a program that goes on. So inside the `with` block Ctrl-C raises KeyboardInterrupt
    only where that is allowed, and is remembered until then.
    """

    def __init__(self) -> None:
        self._pressed = False
        self._allowed = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def reset(self) -> None:
        """What was pressed so far was meant for something that is over."""
        self._pressed = False

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise KeyboardInterrupt inside this block; at once where the key was pressed before.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        self._allowed = True
        try:
            if self._pressed:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._pressed = True
        if self._allowed:
            # Once: what tidies up after it is not cut off by the next.
            self._allowed = False
            raise KeyboardInterrupt


@contextmanager
def no_echo(stdin: TextIO) -> Iterator[None]:
    """Do not show what is typed meanwhile, in the middle of an answer: whoever reads next does."""
    before = termios.tcgetattr(stdin)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(stdin, termios.TCSANOW, silent)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(stdin, termios.TCSANOW, before)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a question as Ctrl-C does: what had arrived is kept."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
