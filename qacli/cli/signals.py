"""Every signal handler of the command line, and the terminal's echo.

| when                                  | signal            | effect                              |
|---------------------------------------|-------------------|-------------------------------------|
| before `qacli.cli.app` is loaded, and | SIGINT            | `qacli.__main__.exit_at_once`: exit |
| after a command has ended             |                   | with 130                            |
| a command                             | SIGINT            | `raise_on_interrupt`: raises        |
|                                       |                   | KeyboardInterrupt                   |
| `qa ask`, `qa chat`, `qa batch work`  | SIGTERM, SIGHUP   | `exit_on_signals`: raises           |
| between two batches                   |                   | SystemExit; what arrived is saved   |
| `qa chat` on a terminal               | SIGINT            | `DeferredInterrupt`: stops only the |
|                                       |                   | answer                              |
| `qa batch FILE`                       | SIGINT, SIGTERM   | `stop_on_signals`: the first stops  |
|                                       |                   | asking, the second ends the batch   |
| a pager runs                          | SIGINT            | `ignore_interrupt`: belongs to the  |
|                                       |                   | pager                               |

`qa serve` has handlers of its own, in `qacli.web.supervisor`. A SIGINT that was ignored when the
program started (`nohup`, `&` in a script) stays ignored by commands.
"""

import atexit
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self, TextIO

IMPORT_CHECK_SECONDS = 0.02
"""Seconds after which a signal that interrupted an import is sent again."""


@contextmanager
def raise_on_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, so that a command can save the text so far."""
    before = signal.getsignal(signal.SIGINT)
    # An ignored SIGINT stays ignored.
    if not callable(before) or before is signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not _comes_after_import(number, frame):
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _comes_after_import(number: int, frame: FrameType | None) -> bool:
    """Return whether an import is interrupted; if so, the signal is sent again after it.

    An exception in an import can leave the lock of its module held. Threads that import the module,
    and the end of the program, would wait for it forever.

    Args:
        number: The signal.
        frame: The code that it interrupts.
    """
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    if frame is None:
        return False
    signal.signal(signal.SIGALRM, lambda _number, _frame: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, IMPORT_CHECK_SECONDS)
    # A command may end before that. Python removes the handler then, and SIGALRM would kill it.
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
    return True


@contextmanager
def restore_interrupt() -> Iterator[None]:
    """Restore the present handler of Ctrl-C at the end of the block."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ignore_interrupt() -> None:
    """Ignore Ctrl-C, until the end of `restore_interrupt`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def stop_on_signals(stop: Callable[[], None], numbers: list[int]) -> None:
    """Handle SIGINT and SIGTERM in the running event loop.

    Args:
        stop: Called at each signal. The second signal also cancels the current task.
        numbers: Gets the number of each signal.
    """
    import asyncio

    task = asyncio.current_task()

    def on_signal(number: int) -> None:
        numbers.append(number)
        if len(numbers) > 1 and task is not None:
            task.cancel()
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)


class DeferredInterrupt:
    """Delay KeyboardInterrupt until a block that allows it.

    Saving an answer or importing a module must not be cut off in a program that goes on. Inside
    the `with` block Ctrl-C raises KeyboardInterrupt only in `allowed`, and is remembered until
    then.
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
        """Forget a Ctrl-C that was pressed before."""
        self._pressed = False

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise KeyboardInterrupt inside this block; at once if Ctrl-C was pressed before.

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
            # Only once: a second Ctrl-C does not cut off the clean-up.
            self._allowed = False
            raise KeyboardInterrupt


@contextmanager
def no_echo(stdin: TextIO) -> Iterator[None]:
    """Turn terminal echo off while an answer streams; typed keys stay in the input buffer."""
    with restored_terminal(stdin) as before:
        silent = [*before]
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(stdin, termios.TCSANOW, silent)
        yield


@contextmanager
def restored_terminal(stdin: TextIO) -> Iterator[list[Any]]:
    """Restore the modes of a terminal at the end of the block, which gets them.

    A prompt restores them too, unless a signal ends it in the moment in which it changes them.
    """
    before = termios.tcgetattr(stdin)
    try:
        yield before
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(stdin, termios.TCSANOW, before)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Raise SystemExit on SIGTERM and SIGHUP, so that the text so far is saved."""

    def end(number: int, frame: FrameType | None) -> None:
        if not _comes_after_import(number, frame):
            raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
