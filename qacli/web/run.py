"""Run the server: check that it can start, then run granian with worker processes of threads.

A question waits seconds for the provider, so a worker has hundreds of threads, and some more than
the questions that it accepts, for all other requests. On SIGTERM and SIGINT new connections are
refused, and the questions in flight are finished and recorded.
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
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qacli.config.callers import check_tokens
from qacli.config.settings import Settings
from qacli.config.upstreams import load_upstreams
from qacli.db.records import Store
from qacli.errors import NotConfigured
from qacli.provider import endpoint, local_llama
from qacli.recording.recovery import start_recovery
from qacli.rlimits import raise_nofile_limit
from qacli.web import access_log, auth, socket_timeouts, state
from qacli.web.app import create_app
from qacli.web.deferred import DeferredResumer
from qacli.web.providers import check_upstreams

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from flask import Flask

SPARE_THREADS = 16
"""Threads of a worker for everything that is not a question in flight."""

OPEN_FILES = 65536
"""A question in flight needs two: the client's connection and the provider's."""

BACKLOG = 2048
HEADER_SECONDS = 10
SWITCH_SECONDS = 0.05
"""The interpreter's switch interval: with the default of 5 ms, hundreds of concurrent requests
spend much of their time on switching threads."""

MAX_HEADERS = 64 * 1024
"""Bytes of a request's first line and headers; a larger request gets 431."""


@contextmanager
def prepare(settings: Settings, *, insecure: bool = False) -> Iterator[str]:
    """Check that the server can start, reserve its port, and yield its URL.

    Args:
        settings: The address, the tokens and the database.
        insecure: Allow an address that other machines can reach without a token.

    Raises:
        NotConfigured: The port is in use, a token is needed, or a token or an upstream cannot be
            used.
        DatabaseError: The database cannot be reached or is not migrated.
    """
    check_tokens(settings.callers)
    check_upstreams(load_upstreams(settings))
    if not (auth.is_loopback(settings.host) or settings.callers or insecure):
        raise NotConfigured(
            f"Refusing to listen on {settings.host} without a token: any client that reaches it "
            "could ask at your expense and read the history.",
            settings.advice_on_ignored("QA_TOKEN", "QA_TOKENS")
            + "Set QA_TOKEN, or use --insecure if the network is yours alone.",
        )
    # Pooled connections, as in the workers; a read-only database is refused.
    Store.open(settings.database, connections=1).close()
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Without SO_REUSEPORT, which the server uses: two servers could share the port.
            probe.bind((settings.host, settings.serve_port))
        except OSError as error:
            raise NotConfigured(
                f"Cannot listen on {settings.host} port {settings.serve_port}: {error.strerror}.",
                "Choose another with --port or --host.",
            ) from error
        port = probe.getsockname()[1]
    name = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
    yield f"http://{name}:{port}"


def run(settings: Settings, address: str, on_ready: Callable[[], None]) -> None:
    """Serve at the address until a signal ends the server.

    Args:
        settings: The settings that were checked by `prepare`.
        address: The URL from `prepare`.
        on_ready: Called once the server can be reached; a local model takes seconds to load.
    """
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    from qacli.web.supervisor import Supervisor

    access_log.log_to_stderr(settings.redact)
    raise_nofile_limit(OPEN_FILES)
    port = urlsplit(address).port or 0
    server = Supervisor(
        on_ready,
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
        # granian would warn that there are more threads than cores; most of these wait.
        log_level=LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"handlers": [], "propagate": True}}},
    )
    with _metrics_directory(settings.workers) as shared:
        loader = partial(_load, settings, shared, port, server.messages)
        server.serve(target_loader=loader, wrap_loader=False)


@contextmanager
def _metrics_directory(workers: int) -> Iterator[Path | None]:
    """Yield a directory for the metrics of several worker processes; None for one process."""
    if workers == 1:
        yield None
        return
    with TemporaryDirectory(prefix="qa-serve-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def _load(settings: Settings, shared: Path | None, port: int, messages: "Connection") -> "Flask":
    """Return the application of one worker process."""
    from qacli.web.supervisor import accept_signals, report_ready

    accept_signals()
    sys.setswitchinterval(SWITCH_SECONDS)
    access_log.log_to_stderr(settings.redact)
    _end_with_parent(settings.grace)
    socket_timeouts.set_client_timeouts(port)
    app = create_app(_with_engine(settings), shared)
    app_state: state.AppState = app.extensions[state.EXTENSION_KEY]
    start_recovery(app_state.outbox, app_state.all_records, DeferredResumer(app_state))
    app_state.in_flight.delay_exit(settings.grace)
    app_state.providers.warm_up()
    report_ready(settings.host, port, messages)
    return app


def _with_engine(settings: Settings) -> Settings:
    """Return the settings with the local engine, started, as the provider if they name it."""
    if not load_upstreams(settings).has_own:
        return settings
    try:
        resolved = endpoint.resolve_endpoint(settings)
        if resolved.weights is None:
            return settings
        address = local_llama.shared_server(resolved.weights)
    except NotConfigured as error:
        # The history can still be read; `POST /ask` returns this error.
        logging.getLogger("qa.web").warning("%s", error)
        return settings
    return settings.replace(
        base_url=address,
        model=resolved.model,
        api_key=None,
        key_command=None,
        keyring=None,
    )


def _end_with_parent(grace: float) -> None:
    """End this worker when the main process has ended, at the latest after `grace` seconds."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, name="qa-parent", daemon=True).start()
