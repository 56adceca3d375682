"""The page at `/`: ask, watch the answer arrive, search the history.

It is rendered on the server and works without JavaScript; `static/page.js` adds the streamed
answer, the keyboard and copying. It uses the same service and store as `POST /ask`, and its errors
are the same problem documents, rendered as pages.
"""

from flask import Flask

from qacli.web.errors import add_renderer
from qacli.web.ui import compare, errors, export, sign_in, views


def init_app(app: Flask) -> None:
    """Add the page and its error pages to the application."""
    blueprints = [module.blueprint for module in (views, compare, export, sign_in)]
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    add_renderer(app, {blueprint.name for blueprint in blueprints}, "/page/", errors.render_page)
