"""A client that stops reading does not occupy the server for ever."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from qacli.web import socket_timeouts


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_apply_to_listeners_ends_connections_that_read_nothing(host: str) -> None:
    with socket.create_server((host, 0), family=family_of(host)) as listener:
        port = listener.getsockname()[1]
        assert socket_timeouts.apply_to_listeners(port, 0.3)
        with socket.socket(family_of(host)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, port))
            connection, _ = listener.accept()
            with connection:
                assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                connection.settimeout(30)
                with pytest.raises(OSError, match="timed out") as raised:
                    connection.sendall(b"x" * 64 * 1024 * 1024)
                # The error of the system, not that of the timeout in this test.
                assert raised.value.errno == errno.ETIMEDOUT


def test_apply_to_listeners_leaves_other_sockets_and_files_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        before = open_files()
        assert not socket_timeouts.apply_to_listeners(1, 0.3)
        # Others of this process may close some meanwhile.
        assert open_files() <= before
        assert other.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
