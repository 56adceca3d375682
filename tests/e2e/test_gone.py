"""The server notices clients that vanish without closing their connection."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

KEEPALIVE = "02"
"""The keepalive timer in /proc/net/tcp; see proc_net_tcp in the documentation of Linux."""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_serve_idle_connection_has_a_keepalive_timer(
    qa: Program, serve: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    served = serve(qa)

    def has_keepalive() -> bool:
        # A new connection each time: the server's socket has the limit soon after it listens.
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(b"GET /is_up HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            return timer_of(served.port, client.getsockname()[1]) == KEEPALIVE

    wait_for(has_keepalive)


def timer_of(port: int, client: int) -> str | None:
    """Return the timer of the server's socket of a connection, as in /proc/net/tcp."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, _, _, timer, *_ = line.split()
        if (here[-4:], there[-4:]) == (f"{port:04X}", f"{client:04X}"):
            return timer.partition(":")[0]
    return None
