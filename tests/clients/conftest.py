"""The server on a socket, for the clients of others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask

    from qacli.db.records import Store

TOKEN = "token-0123456789abcdef"


@pytest.fixture
def served(store: Store, build: Callable[..., Flask]) -> Iterator[str]:
    """Return the base URL of the API, which takes `TOKEN` as its key."""
    assert store
    server = make_server("127.0.0.1", 0, build(token=TOKEN), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()
