"""The Flask face: the same use cases as the terminal, over HTTP.

`create_app` builds the application from settings; nothing is made at import.
"""

from pathlib import Path

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from qacli.config import Settings, wants_traces
from qacli.web import (
    access,
    asks,
    docs,
    guard,
    headers,
    health,
    metrics,
    page,
    problems,
    rates,
    records,
    service,
)
from qacli.web.inturn import InTurn
from qacli.web.quickjson import QuickJson
from qacli.web.v1 import routes as v1

MAX_BODY = 4 * 1024 * 1024


def create_app(settings: Settings, shared: Path | None = None) -> Flask:
    """The application, with a database pool and a provider of its own.

    Args:
        settings: Where the database and the provider are; the provider's address must be there
            already, so a local engine is started by whoever calls this.
        shared: A directory of the server's processes, where there are several: what is counted
            is counted there.
    """
    app = Flask("qacli", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json = QuickJson(app)
    running = app.extensions[service.KEY] = service.Service(settings)
    counted = app.extensions[metrics.KEY] = metrics.Metrics(running.outbox, shared)
    running.watches.append(counted.asked)
    if wants_traces():
        from qacli.web import tracing

        running.watches += tracing.install(app)
    headers.allow(app, settings.cors_origins)
    guard.install(app, settings, running.all_records)
    rates.install(app, settings, shared)
    problems.install(app)
    for blueprint in (
        *(health.blueprint, metrics.blueprint, asks.blueprint, records.blueprint),
        *(docs.blueprint, v1.blueprint),
    ):
        app.register_blueprint(blueprint)
    page.install(app)
    in_turn = InTurn(app.wsgi_app)
    whole = access.Access(headers.Secured(in_turn), counted.began, counted.ended)
    if trusted := settings.proxies:
        # Not the host: a proxy that does not set it lets a client say any.
        app.wsgi_app = ProxyFix(whole, x_for=trusted, x_proto=trusted, x_host=0)  # type: ignore[method-assign]
    else:
        app.wsgi_app = whole  # type: ignore[method-assign]
    return app
