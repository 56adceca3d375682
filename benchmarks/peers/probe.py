"""Get an address 20 times a second until SIGTERM; then print the seconds that each took, as JSON.

A process of its own: a client that is busy with a thousand connections would measure itself.
"""

import json
import signal
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

LIMIT_SECONDS = 30.0


def main() -> None:
    """Probe the address that is the argument."""
    took: list[float] = []
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))
    print("ready", flush=True)  # noqa: T201
    while not signals:
        start = time.perf_counter()
        try:
            with urlopen(sys.argv[1], timeout=LIMIT_SECONDS) as answer:  # noqa: S310 - ours
                answer.read()
        except (URLError, OSError):
            took.append(LIMIT_SECONDS)
        else:
            took.append(time.perf_counter() - start)
        time.sleep(0.05)
    print(json.dumps(took))  # noqa: T201


if __name__ == "__main__":
    main()
