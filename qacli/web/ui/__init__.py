"""The page at `/`: ask, watch the answer arrive, search the history.

It is rendered on the server and works without JavaScript; `static/page.js` adds the streamed
answer, the keyboard and copying. It uses the same service and store as `POST /ask`, and its errors
are the same problem documents, rendered as pages.
"""

from flask import Flask

from qacli.web.errors import add_renderer
from qacli.web.ui import (
    compare,  # noqa: F401 - adds its routes to the blueprint of views
    errors,
    export,  # noqa: F401 - likewise
    sign_in,
    views,
)


def init_app(app: Flask) -> None:
    """Add the page and its error pages to the application."""
    app.register_blueprint(views.blueprint)
    app.register_blueprint(sign_in.blueprint)
    names = {views.blueprint.name, sign_in.blueprint.name}
    add_renderer(app, names, "/page/", errors.render_error)
