"""A line in the log for each request."""

import logging
from time import monotonic

from flask import Flask, Response, g, request

LOG = logging.getLogger("qa.web")


def install(app: Flask) -> None:
    """Log each request when its response is ready; never its body, its query or its token."""

    def begin() -> None:
        g.began = monotonic()

    def end(response: Response) -> Response:
        took = (monotonic() - g.began) * 1000
        LOG.info("%s %s %s %.0f ms", request.method, request.path, response.status_code, took)
        return response

    app.before_request(begin)
    app.after_request(end)
