"""The entry point of `qa` and `python -m qacli`; Ctrl-C while it loads ends it silently.

So this module imports only what that needs.
"""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the program."""
    # SIGINT may be ignored on purpose (`nohup`, `&` in a script); leave that as it is.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)
    from qacli.cli.app import main as program

    program()


def _exit(number: int, _frame: FrameType | None) -> None:
    """Exit immediately: an exception inside an import could be caught there.

    No work has started, so there is nothing to clean up.
    """
    os._exit(128 + number)


if __name__ == "__main__":
    main()
