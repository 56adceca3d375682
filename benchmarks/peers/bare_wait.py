"""A Flask view under the server of `qa serve` that only waits: the most that the server can do."""

import sys
import time
from functools import partial
from typing import Any

from bare import serve
from flask import Flask, request


def create_app(seconds: float) -> Flask:
    """The application: one view that asks no provider and stores nothing."""
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
    serve(partial(create_app, seconds), port, workers, threads)


if __name__ == "__main__":
    main()
