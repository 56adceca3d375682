"""Signing in with a token, where the server wants one: a browser gets a session for it.

The session's cookie is HttpOnly, so that no script can read it; Secure over HTTPS; and
SameSite=Strict, so that no other site can make a browser use it: a link from elsewhere leads to
the form, from which the page goes on.
"""

import threading
from http import HTTPStatus

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from qacli.errors import Busy, Unauthorized
from qacli.web import auth
from qacli.web.policy import Access, policy
from qacli.web.sessions import COOKIE, LIFETIME
from qacli.web.ui.forms import SignInForm

blueprint = Blueprint("signing", __name__)

OLD_COOKIE = "qa_token"
"""The cookie of earlier versions, which held the token itself."""

MOST = 4
"""Forms that are read at a time: anybody may send one, slowly, and each holds a thread."""

LONGEST_FORM = 16 * 1024

reading = threading.BoundedSemaphore(MOST)


@blueprint.get("/sign-in")
@policy(Access.SAME_ORIGIN)
def form() -> Response | str:
    """The form for the token; where none is needed there is nothing to sign in to."""
    if not auth.current().tokens:
        return redirect("/", HTTPStatus.SEE_OTHER)
    return render_template("sign_in.html", next=_next(), wrong=False)


@blueprint.post("/sign-in")
@policy(Access.SAME_ORIGIN, is_limited=False)
def sign_in() -> Response | tuple[str, int]:
    """Check the token, and begin a session of the browser that sends it."""
    request.max_content_length = LONGEST_FORM
    if not reading.acquire(blocking=False):
        raise Busy("Too many are signing in.", "Try again in a moment.")
    try:
        token = SignInForm.model_validate(request.form.to_dict()).token
    finally:
        reading.release()
    try:
        caller = auth.current().from_token(token.encode(errors="replace"))
    except Unauthorized:
        page = render_template("sign_in.html", next=_next(), wrong=True)
        return page, HTTPStatus.FORBIDDEN
    _end_session()
    response = redirect(_next(), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        COOKIE,
        auth.current().sessions.begin(caller.name or ""),
        max_age=LIFETIME,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
    )
    return _without_old_cookie(response)


@blueprint.post("/sign-out")
@policy(Access.SAME_ORIGIN, is_limited=False)
def sign_out() -> Response:
    """End the session, here and in the browser."""
    _end_session()
    response = redirect("/sign-in", HTTPStatus.SEE_OTHER)
    response.delete_cookie(COOKIE, httponly=True, samesite="Strict", secure=request.is_secure)
    return _without_old_cookie(response)


def _end_session() -> None:
    if cookie := request.cookies.get(COOKIE):
        auth.current().sessions.end(cookie)


def _without_old_cookie(response: Response) -> Response:
    if OLD_COOKIE in request.cookies:
        response.delete_cookie(OLD_COOKIE, httponly=True, samesite="Strict")
    return response


def _next() -> str:
    """Where to go from here: a page of this server, whatever the address says."""
    return SignInForm.model_validate(request.values.to_dict()).next
