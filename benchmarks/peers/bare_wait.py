"""A Flask view under the server of `qa serve` that only waits: what the server can do at all."""

import sys
import time
from functools import partial
from typing import Any

from flask import Flask, request
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server import Server


def create_app(seconds: float) -> Flask:
    """The application: one view that asks nobody and keeps nothing."""
    app = Flask(__name__)

    @app.post("/ask")
    def ask() -> Any:  # noqa: ANN401 - whatever was sent
        body = request.get_json()
        time.sleep(seconds)
        return body

    @app.get("/is_up")
    def is_up() -> dict[str, str]:
        return {"message": "yes"}

    return app


def main() -> None:
    """Serve: the seconds, the port, the workers and the threads are the arguments."""
    seconds, (port, workers, threads) = float(sys.argv[1]), map(int, sys.argv[2:])
    Server(
        "bare",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads,
        backlog=2048,
        backpressure=2048,
        http=HTTPModes.http1,
        websockets=False,
        log_access=False,
        log_level=LogLevels.error,
    ).serve(target_loader=partial(create_app, seconds), wrap_loader=False)


if __name__ == "__main__":
    main()
