"""`qa`, and `python -m qacli`: until the program is loaded, Ctrl-C ends it without a word.

So this loads nothing but what that takes.
"""

import os
import signal
from types import FrameType


def main() -> None:
    """`qa`, as it is installed."""
    # Not where whoever started it has said that Ctrl-C is not for it (`nohup`, `&` in a script).
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from qacli.cli.app import main as program

    program()


def _leave(number: int, _frame: FrameType | None) -> None:
    """Leave at once: an exception could come out in any import, and be taken for another.

    Nothing has been begun yet, and at the end all is written.
    """
    os._exit(128 + number)


if __name__ == "__main__":
    main()
