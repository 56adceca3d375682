"""Sign in with a token: the browser gets the cookie of a session.

The cookie is HttpOnly, so that no script can read it; Secure over HTTPS; and SameSite=Strict, so
that no other site can make a browser use it. After a link from another site, the browser shows the
form, which then leads to the page.
"""

import threading
from http import HTTPStatus

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from qacli.errors import Busy, Unauthorized
from qacli.web import auth
from qacli.web.forwarded_prefix import root
from qacli.web.route_policy import Access, policy
from qacli.web.sessions import COOKIE, LIFETIME
from qacli.web.ui.forms import SignInForm

blueprint = Blueprint("signing", __name__)

OLD_COOKIE = "qa_token"
"""The cookie of earlier versions, which contained the token."""

MAX_FORMS = 4
"""Forms that are read at the same time: each one that a client sends slowly holds a thread."""

MAX_FORM_BYTES = 16 * 1024

form_slots = threading.BoundedSemaphore(MAX_FORMS)


@blueprint.get("/sign-in")
@policy(Access.SAME_ORIGIN)
def form() -> Response | str:
    """Show the form for the token; redirect to the page if the server needs no token."""
    if not auth.current().tokens:
        return redirect("/", HTTPStatus.SEE_OTHER)
    return render_template("sign_in.html", next=_next(), is_wrong=False)


@blueprint.post("/sign-in")
@policy(Access.SAME_ORIGIN, is_limited=False)
def sign_in() -> Response | tuple[str, int]:
    """Check the token, and start a session for the browser."""
    request.max_content_length = MAX_FORM_BYTES
    if not form_slots.acquire(blocking=False):
        raise Busy("Too many sign-ins at the same time.", "Try again in a moment.")
    try:
        token = SignInForm.model_validate(request.form.to_dict()).token
    finally:
        form_slots.release()
    try:
        caller = auth.current().from_token(token.encode(errors="replace"))
    except Unauthorized:
        page = render_template("sign_in.html", next=_next(), is_wrong=True)
        return page, HTTPStatus.FORBIDDEN
    _end_session()
    response = redirect(_next(), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        COOKIE,
        auth.current().sessions.start(caller.name or ""),
        max_age=LIFETIME,
        path=root() or "/",
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
    )
    return _without_old_cookie(response)


@blueprint.post("/sign-out")
@policy(Access.SAME_ORIGIN, is_limited=False)
def sign_out() -> Response:
    """End the session, on the server and in the browser."""
    _end_session()
    response = redirect("/sign-in", HTTPStatus.SEE_OTHER)
    response.delete_cookie(
        COOKIE,
        path=root() or "/",
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
    )
    return _without_old_cookie(response)


def _end_session() -> None:
    if cookie := request.cookies.get(COOKIE):
        auth.current().sessions.end(cookie)


def _without_old_cookie(response: Response) -> Response:
    if OLD_COOKIE in request.cookies:
        response.delete_cookie(OLD_COOKIE, httponly=True, samesite="Strict")
    return response


def _next() -> str:
    """Return the address to go to after signing in, always on this server."""
    return SignInForm.model_validate(request.values.to_dict()).next
