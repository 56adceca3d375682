"""The Flask application: ask questions and read the history over HTTP.

`create_app` builds it from settings; importing this module creates nothing.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from qacli.config.loader import has_trace_exporter
from qacli.config.settings import Settings
from qacli.web import (
    access_log,
    auth,
    budget,
    cors,
    errors,
    forwarded_prefix,
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

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

MAX_BODY = 4 * 1024 * 1024


def create_app(settings: Settings, shared: Path | None = None) -> Flask:
    """Build the application, with its own database pool and provider.

    Args:
        settings: The settings; the caller has started a local engine and set its address.
        shared: The directory for the metrics of several processes; None for one process.
    """
    app = Flask("qacli", static_folder=None)
    app.url_map.strict_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json = PydanticJSONProvider(app)
    app_state = app.extensions[state.EXTENSION_KEY] = state.AppState(settings)
    app_metrics = metrics.Metrics(app_state.outbox, shared)
    app.extensions[metrics.EXTENSION_KEY] = app_metrics
    app_state.observers.append(app_metrics.question_started)
    if has_trace_exporter():
        from qacli.web import tracing

        app_state.observers += tracing.init_app(app)
    cors.init_app(app, settings.cors_origins)
    auth.init_app(app, settings, app_state.all_records)
    rate_limit.init_app(app, settings, app_state.all_records)
    budget.init_app(app, settings, app_state.all_records)
    errors.init_app(app)
    forwarded_prefix.init_app(app)
    for blueprint in (
        *(health.blueprint, metrics.blueprint, ask.blueprint, records.blueprint),
        docs.blueprint,
    ):
        app.register_blueprint(blueprint)
    v1.init_app(app, settings)
    errors.add_renderer(app, {v1.blueprint.name}, "/v1", render_openai_error)
    ui.init_app(app)
    wsgi_app = access_log.AccessLogMiddleware(
        security_headers.SecurityHeadersMiddleware(_merge_slashes(app.wsgi_app)),
        app_metrics.request_started,
        app_metrics.request_finished,
    )
    if trusted := settings.proxies:
        # Not X-Forwarded-Host: if the proxy does not set it, a client can send any.
        fixed = ProxyFix(wsgi_app, x_for=trusted, x_proto=trusted, x_host=0)
        app.wsgi_app = forwarded_prefix.ForwardedPrefixMiddleware(fixed)  # type: ignore[method-assign]
    else:
        app.wsgi_app = wsgi_app  # type: ignore[method-assign]
    return app


def _merge_slashes(wsgi_app: "WSGIApplication") -> "WSGIApplication":
    """Return an application that takes `//` in a path for `/`.

    Many a base URL ends in a slash. Werkzeug would answer with a redirect, in HTML.
    """

    def call(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        environ["PATH_INFO"] = re.sub("//+", "/", environ["PATH_INFO"])
        return wsgi_app(environ, start_response)

    return call
