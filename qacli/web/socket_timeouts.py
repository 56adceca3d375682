"""Drop dead or stalled client connections: TCP_USER_TIMEOUT and keep-alive (tcp(7)).

Such a connection would occupy a thread forever. The options are set on the listening socket, and
connections inherit them. docs/adr/0010-client-timeouts.md explains the search in /proc/self/fd.
"""

import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

TIMEOUT_SECONDS = 60.0
"""Seconds without an acknowledgement after which a connection ends."""

KEEP_ALIVE_SECONDS = 20
RETRY_SECONDS = 0.05


def set_client_timeouts(port: int) -> None:
    """Set the timeouts of a port's connections, in a thread, once this process listens there."""
    if sys.platform != "linux":
        return

    def wait() -> None:
        while not apply_to_listeners(port, TIMEOUT_SECONDS):
            time.sleep(RETRY_SECONDS)

    threading.Thread(target=wait, name="qa-client-timeouts", daemon=True).start()


def apply_to_listeners(port: int, seconds: float) -> bool:
    """Set the timeouts on the sockets of this process that listen on a port.

    Args:
        port: The port.
        seconds: Seconds without an acknowledgement after which a connection ends.

    Returns:
        True if there is such a socket.
    """
    is_listening = False
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            # A descriptor may have been closed since the listing.
            if not path.readlink().name.startswith("socket:"):
                continue
            with socket.fromfd(int(path.name), socket.AF_INET, socket.SOCK_STREAM) as listener:
                accepts = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if accepts and listener.getsockname()[1:2] == (port,):
                    milliseconds = round(seconds * 1000)
                    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
                    # An idle connection has no data to acknowledge, so send probes.
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_SECONDS)
                    listener.setsockopt(
                        socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_SECONDS
                    )
                    is_listening = True
    return is_listening
