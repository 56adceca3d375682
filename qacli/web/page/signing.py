"""Signing in with a token, where the server wants one: a browser keeps it in a cookie."""

import threading
from http import HTTPStatus

from flask import Blueprint, current_app, redirect, render_template, request
from werkzeug.wrappers import Response

from qacli.errors import Busy
from qacli.web import guard
from qacli.web.page.form import SignInForm

blueprint = Blueprint("signing", __name__)

COOKIE_DAYS = 30

MOST = 4
"""Forms that are read at a time: anybody may send one, slowly, and each holds a thread."""

LONGEST_FORM = 16 * 1024

reading = threading.BoundedSemaphore(MOST)


@blueprint.get("/sign-in")
def form() -> Response | str:
    """The form for the token; where none is needed there is nothing to sign in to."""
    if not current_app.extensions[guard.KEY]:
        return redirect("/", HTTPStatus.SEE_OTHER)
    return render_template("sign_in.html", next=_next(), wrong=False)


@blueprint.post("/sign-in")
def sign_in() -> Response | tuple[str, int]:
    """Check the token, and have the browser keep it."""
    request.max_content_length = LONGEST_FORM
    if not reading.acquire(blocking=False):
        raise Busy("Too many are signing in.", "Try again in a moment.")
    try:
        token = SignInForm.model_validate(request.form.to_dict()).token
    finally:
        reading.release()
    if not guard.is_token(token):
        page = render_template("sign_in.html", next=_next(), wrong=True)
        return page, HTTPStatus.FORBIDDEN
    response = redirect(_next(), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        guard.COOKIE,
        token,
        max_age=COOKIE_DAYS * 24 * 60 * 60,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
    )
    return response


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """Have the browser forget it."""
    response = redirect("/sign-in", HTTPStatus.SEE_OTHER)
    response.delete_cookie(guard.COOKIE, httponly=True, samesite="Strict")
    return response


def _next() -> str:
    """Where to go from here: a page of this server, whatever the address says."""
    return SignInForm.model_validate(request.values.to_dict()).next
