"""`qa` and `python -m qacli`. Until the program is loaded, Ctrl-C ends it without a message.

So this module imports little. All signal handlers: see `qacli.cli.signals`.
An older Python can parse this module and `qacli/__init__.py`, and read the error below.
"""

import os
import signal
import sys
from types import FrameType

if sys.version_info < (3, 11):  # noqa: UP036 - `python3.10 -m qacli` in a clone; pip checks by itself
    print(  # noqa: T201 - nothing of the program can be loaded
        "qa needs Python 3.11 or newer, and this is Python {}.{}. Use a newer Python, or uv, "
        "which finds or installs one: uv run --extra local qa".format(*sys.version_info),
        file=sys.stderr,
    )
    sys.exit(3)


def main() -> None:
    """`qa`, as it is installed."""
    # A SIGINT that is ignored (`nohup`, `&` in a script) stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, exit_at_once)
    from qacli.config.completion import completion_variables

    variables = completion_variables()
    if variables:
        # Collecting garbage and freeing each object at the end would take a fifth of the time.
        import gc

        gc.disable()
        from qacli.cli.completion import main as complete

        code = complete(variables)
        sys.stdout.flush()
        os._exit(code)
    from qacli.cli.app import main as program

    program()


def exit_at_once(number: int, _frame: FrameType | None) -> None:
    """End the process: an exception could appear in any import and be mistaken for another.

    Before a command nothing has begun, and after it everything is written.
    """
    os._exit(128 + number)


if __name__ == "__main__":
    main()
