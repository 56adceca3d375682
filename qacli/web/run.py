"""The server process: checks before it starts, then granian with worker processes of threads.

A question waits seconds on the provider, so a worker has hundreds of threads that wait, some
more than it takes questions, so that everything else is answered meanwhile. On SIGTERM and
SIGINT new connections are refused and what is in flight is finished and recorded.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qacli.config.callers import check_tokens
from qacli.config.settings import Settings
from qacli.db.records import Store
from qacli.errors import NotConfigured
from qacli.provider import endpoint, local_llama
from qacli.recording.recovery import start_recovery
from qacli.rlimits import raise_nofile_limit
from qacli.web import access_log, auth, socket_timeouts, state
from qacli.web.app import create_app
from qacli.web.deferred import DeferredResumer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from flask import Flask

SPARE_THREADS = 16
"""Threads of a worker for everything that is not a question in flight."""

OPEN_FILES = 65536
"""A question in flight holds two: the client's connection and the provider's."""

BACKLOG = 2048
HEADER_SECONDS = 10
SWITCH_SECONDS = 0.05
"""Seconds for which a thread keeps the interpreter while others want it: with the default of 5 ms
hundreds of requests that run at once spend much of their time on switching."""

MAX_HEADERS = 64 * 1024
"""Bytes of a request's line and headers; beyond them it is refused with 431."""


@contextmanager
def prepare(settings: Settings, *, insecure: bool = False) -> Iterator[str]:
    """See that the server can start, and hold its port until it has; gives its address.

    Args:
        settings: What to serve, and where.
        insecure: Allow an address that others can reach without a token.

    Raises:
        NotConfigured: The port is taken, there is no token where one is due, or a token is unfit.
        DatabaseError: The database is away or not migrated.
    """
    check_tokens(settings.callers)
    if not (auth.is_loopback(settings.host) or settings.callers or insecure):
        raise NotConfigured(
            f"Refusing to listen on {settings.host} without a token: any client that reaches it "
            "could ask at your expense and read the history.",
            settings.advice_on_ignored("QA_TOKEN", "QA_TOKENS")
            + "Set QA_TOKEN, or use --insecure if the network is yours alone.",
        )
    # With connections that stay, as they will be: one that can only be read will not do.
    Store.open(settings.database, connections=1).close()
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Without SO_REUSEPORT: the server binds with it, so two would share the port unseen.
            probe.bind((settings.host, settings.serve_port))
        except OSError as error:
            raise NotConfigured(
                f"Cannot listen on {settings.host} port {settings.serve_port}: {error.strerror}.",
                "Choose another with --port or --host.",
            ) from error
        port = probe.getsockname()[1]
    name = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
    yield f"http://{name}:{port}"


def run(settings: Settings, address: str, tell: Callable[[], None]) -> None:
    """Serve at the address until a signal ends it.

    Args:
        settings: As `prepared`.
        address: What that gave.
        tell: Called once it can be reached: a local model takes seconds to load.
    """
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    from qacli.web.supervisor import Supervisor

    access_log.log_to_stderr(settings.redact)
    raise_nofile_limit(OPEN_FILES)
    port = urlsplit(address).port or 0
    server = Supervisor(
        tell,
        address=settings.host,
        port=port,
        interface=Interfaces.WSGI,
        workers=settings.workers,
        blocking_threads=settings.threads + SPARE_THREADS,
        backlog=BACKLOG,
        backpressure=BACKLOG,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=MAX_HEADERS
        ),
        websockets=False,
        workers_kill_timeout=settings.grace,
        respawn_failed_workers=True,
        log_access=False,
        # It would warn that there are more threads than cores: to wait is what they are for.
        log_level=LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"handlers": [], "propagate": True}}},
    )
    with _shared(settings.workers) as shared:
        loader = partial(_load, settings, shared, port, server.messages)
        server.serve(target_loader=loader, wrap_loader=False)


@contextmanager
def _shared(workers: int) -> Iterator[Path | None]:
    """Yield a directory for the metrics of several worker processes; None for one process."""
    if workers == 1:
        yield None
        return
    with TemporaryDirectory(prefix="qa-serve-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def _load(settings: Settings, shared: Path | None, port: int, messages: "Connection") -> "Flask":
    """The application of one worker process."""
    from qacli.web.supervisor import accept_signals, report_ready

    accept_signals()
    sys.setswitchinterval(SWITCH_SECONDS)
    access_log.log_to_stderr(settings.redact)
    _end_with_parent(settings.grace)
    socket_timeouts.set_client_timeouts(port)
    app = create_app(_with_engine(settings), shared)
    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    start_recovery(running.outbox, running.all_records, DeferredResumer(running))
    running.in_flight.delay_exit(settings.grace)
    running.warm_up()
    report_ready(settings.host, port, messages)
    return app


def _with_engine(settings: Settings) -> Settings:
    """The settings, with the local engine as the provider where it is the one."""
    try:
        found = endpoint.resolve_endpoint(settings)
        if found.weights is None:
            return settings
        engine = local_llama.local_server(found.weights)
        address = engine.__enter__()
    except NotConfigured as error:
        # The history can be read all the same; `POST /ask` says what is missing.
        logging.getLogger("qa.web").warning("%s", error)
        return settings
    _engines.append(engine)
    return replace(
        settings,
        base_url=address,
        model=found.model,
        api_key=None,
        key_command=None,
        keyring=None,
    )


_engines: list[object] = []
"""What must live as long as the worker does."""


def _end_with_parent(grace: float) -> None:
    """A main process that is killed must not leave workers: they finish, but not for ever."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, name="qa-parent", daemon=True).start()
