"""Errors for people: the problem document of a page's route, told as a page.

The problem is made where every other is, so that a kind of error has one status and one text.
"""

from http import HTTPStatus
from urllib.parse import quote

from flask import Flask, Response, redirect, render_template, request

from qacli.web import errors

PAGES = ("/page/", "/sign-in", "/sign-out")
HTML = "text/html"

NAMES = {
    HTTPStatus.NOT_FOUND: "Nothing here",
    HTTPStatus.FORBIDDEN: "Not from there",
    HTTPStatus.METHOD_NOT_ALLOWED: "Not like that",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too long",
    HTTPStatus.UNPROCESSABLE_ENTITY: "That cannot be asked",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many at once",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not right now",
}


def init_app(app: Flask) -> None:
    """Turn the problems of the page's routes into pages, for who reads pages."""

    def told(response: Response) -> Response:
        if response.mimetype != errors.MIME_TYPE or not wants_html():
            return response
        if response.status_code == HTTPStatus.UNAUTHORIZED and request.method == "GET":
            return to_sign_in()
        problem = response.get_json()
        response.set_data(
            render_template(
                "fault.html",
                name=NAMES.get(HTTPStatus(response.status_code), "Something went wrong"),
                problem=problem,
            )
        )
        response.content_type = f"{HTML}; charset=utf-8"
        return response

    app.after_request(told)


def wants_html() -> bool:
    """Whether a page was asked for, by something that shows pages."""
    ours = request.path == "/" or request.path.startswith(PAGES)
    return ours and request.accept_mimetypes.best_match([errors.MIME_TYPE, HTML]) == HTML


def to_sign_in() -> Response:
    """To the form for the token, and back afterwards."""
    wanted = request.full_path.removesuffix("?")
    return redirect(f"/sign-in?next={quote(wanted, safe='/')}", HTTPStatus.SEE_OTHER)  # type: ignore[return-value]
