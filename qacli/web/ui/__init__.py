"""The page at `/`: ask, watch the answer arrive, look through the history.

Rendered on the server and complete without JavaScript; what `static/page.js` adds is the answer
while it arrives, the keyboard and copying. It goes through the same use case and store as
`POST /ask`, and its errors are the same problems, told to a person.
"""

from flask import Flask

from qacli.web.ui import errors, sign_in, views


def init_app(app: Flask) -> None:
    """Add the page, and tell errors to people as pages."""
    app.register_blueprint(views.blueprint)
    app.register_blueprint(sign_in.blueprint)
    errors.init_app(app)
