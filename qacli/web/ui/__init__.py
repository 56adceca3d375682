"""The page at `/`: ask, watch the answer arrive, look through the history.

Rendered on the server and complete without JavaScript; what `static/page.js` adds is the answer
while it arrives, the keyboard and copying. It goes through the same use case and store as
`POST /ask`, and its errors are the same problems, told to a person.
"""

from flask import Flask

from qacli.web.errors import add_renderer
from qacli.web.ui import errors, sign_in, views


def init_app(app: Flask) -> None:
    """Add the page, and render errors of its routes as pages."""
    app.register_blueprint(views.blueprint)
    app.register_blueprint(sign_in.blueprint)
    names = {views.blueprint.name, sign_in.blueprint.name}
    add_renderer(app, names, "/page/", errors.render_page)
