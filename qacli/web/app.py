"""The Flask face: the same use cases as the terminal, over HTTP.

`create_app` builds the application from settings; nothing is made at import.
"""

from pathlib import Path

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from qacli.config.loader import wants_traces
from qacli.config.settings import Settings
from qacli.web import (
    access_log,
    auth,
    cors,
    errors,
    metrics,
    rate_limit,
    security_headers,
    state,
    ui,
)
from qacli.web.api import ask, docs, health, records
from qacli.web.json_provider import PydanticJSONProvider
from qacli.web.openai_api import routes as v1
from qacli.web.openai_api.errors import render_openai_error

MAX_BODY = 4 * 1024 * 1024


def create_app(settings: Settings, shared: Path | None = None) -> Flask:
    """Build the application, with its own database pool and provider.

    Args:
        settings: The settings. The provider's address must be known already: the caller starts a
            local engine before.
        shared: The directory for the metrics of several processes; None for one process.
    """
    app = Flask("qacli", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json = PydanticJSONProvider(app)
    running = app.extensions[state.EXTENSION_KEY] = state.AppState(settings)
    counted = app.extensions[metrics.KEY] = metrics.Metrics(running.outbox, shared)
    running.observers.append(counted.question_started)
    if wants_traces():
        from qacli.web import tracing

        running.observers += tracing.init_app(app)
    cors.init_app(app, settings.cors_origins)
    auth.init_app(app, settings, running.all_records)
    rate_limit.init_app(app, settings)
    errors.init_app(app)
    for blueprint in (
        *(health.blueprint, metrics.blueprint, ask.blueprint, records.blueprint),
        *(docs.blueprint, v1.blueprint),
    ):
        app.register_blueprint(blueprint)
    errors.add_renderer(app, {v1.blueprint.name}, "/v1/", render_openai_error)
    ui.init_app(app)
    whole = access_log.AccessLogMiddleware(
        security_headers.SecurityHeadersMiddleware(app.wsgi_app),
        counted.request_started,
        counted.request_finished,
    )
    if trusted := settings.proxies:
        # Not the host: a proxy that does not set it lets a client say any.
        app.wsgi_app = ProxyFix(whole, x_for=trusted, x_proto=trusted, x_host=0)  # type: ignore[method-assign]
    else:
        app.wsgi_app = whole  # type: ignore[method-assign]
    return app
