"""The Flask face: the same use cases as the terminal, over HTTP.

`create_app` builds the application from settings; nothing is made at import.
"""

from flask import Flask

from qacli.config import Settings
from qacli.web import access, asks, guard, health, problems, records, service

MAX_BODY = 4 * 1024 * 1024


def create_app(settings: Settings) -> Flask:
    """The application, with a database pool and a provider of its own.

    Args:
        settings: Where the database and the provider are; the provider's address must be there
            already, so a local engine is started by whoever calls this.
    """
    app = Flask("qacli", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.compact = True  # type: ignore[attr-defined]
    app.extensions[service.KEY] = service.Service(settings)
    access.install(app)
    guard.install(app, settings)
    problems.install(app)
    for blueprint in (health.blueprint, asks.blueprint, records.blueprint):
        app.register_blueprint(blueprint)
    return app
