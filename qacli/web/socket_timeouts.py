"""Clients that are gone without a word, or take nothing of what they are sent.

Each would hold a thread, and perhaps a place: the server waits for them for ever. So the system
ends such a connection, and an answer goes on then as after any client that has left. Connections
have the limit from the socket that they come in by.
"""

import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

SECONDS = 60.0
"""How long a client may take nothing, or give no sign that it is there."""

ASKED_SECONDS = 20
PAUSE_SECONDS = 0.05


def set_client_timeouts(port: int) -> None:
    """Limit all connections that will come in by a port, once this process listens there."""
    if sys.platform != "linux":
        return

    def wait() -> None:
        while not apply_to_listeners(port, SECONDS):
            time.sleep(PAUSE_SECONDS)

    threading.Thread(target=wait, name="qa-readers", daemon=True).start()


def apply_to_listeners(port: int, seconds: float) -> bool:
    """Limit them, where this process listens there already; returns whether it does.

    Args:
        port: The port.
        seconds: How long a client may take nothing, or give no sign that it is there.
    """
    found = False
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            # The server does not tell which file its socket is; some are closed by now.
            if not path.readlink().name.startswith("socket:"):
                continue
            with socket.fromfd(int(path.name), socket.AF_INET, socket.SOCK_STREAM) as each:
                listens = each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens and each.getsockname()[1:2] == (port,):
                    milliseconds = round(seconds * 1000)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
                    # Where nothing is on its way to it, whether it is there has to be asked.
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ASKED_SECONDS)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASKED_SECONDS)
                    found = True
    return found
