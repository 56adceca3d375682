"""Errors of the page's routes, as HTML pages for browsers."""

from dataclasses import replace
from http import HTTPStatus
from urllib.parse import quote

from flask import Response, redirect, render_template, request

from qacli.web import errors
from qacli.web.errors import Problem

HTML = "text/html"

TITLES = {
    HTTPStatus.NOT_FOUND: "Not found",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.METHOD_NOT_ALLOWED: "Method not allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too long",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Invalid question",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests",
    HTTPStatus.SERVICE_UNAVAILABLE: "Unavailable",
}


def render_error(problem: Problem) -> Response:
    """Return the response of an error: a page for a browser, else a problem document."""
    if request.accept_mimetypes.best_match([errors.MIME_TYPE, HTML]) != HTML:
        return errors.render_problem(problem)
    if problem.status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
        return _to_sign_in()
    if problem.status == HTTPStatus.NOT_FOUND:
        # The advice is for programs; the page has a link to the history.
        problem = replace(problem, detail=problem.detail.partition(". ")[0].removesuffix(".") + ".")
    page = render_template(
        "error.html",
        name=TITLES.get(HTTPStatus(problem.status), "Something went wrong"),
        problem=problem,
    )
    return Response(page, problem.status, headers=problem.headers, mimetype=HTML)


def _to_sign_in() -> Response:
    """Redirect to the form for the token, which leads back."""
    path = request.full_path.removesuffix("?")
    return redirect(f"/sign-in?next={quote(path, safe='/')}", HTTPStatus.SEE_OTHER)  # type: ignore[return-value]
