"""Serve the bare views with the same server as `qa serve`, and nothing else."""

from collections.abc import Callable

from flask import Flask
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server import Server


def serve(make: Callable[[], Flask], port: int, workers: int, threads: int) -> None:
    """Serve an application, made in each worker process, until a signal ends it."""
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
    ).serve(target_loader=make, wrap_loader=False)
