"""`qa` and `python -m qacli`. Until the program is loaded, Ctrl-C ends it without a message.

So this module imports only what that needs. All signal handlers: see `qacli.cli.signals`.
"""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """`qa`, as it is installed."""
    # A SIGINT that is ignored (`nohup`, `&` in a script) stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, exit_at_once)
    from qacli.config.completion import completion_variables

    if variables := completion_variables():
        from qacli.cli.completion import main as complete

        sys.exit(complete(variables))
    from qacli.cli.app import main as program

    program()


def exit_at_once(number: int, _frame: FrameType | None) -> None:
    """End the process: an exception could appear in any import and be mistaken for another.

    Before a command nothing has begun, and after it everything is written.
    """
    os._exit(128 + number)


if __name__ == "__main__":
    main()
