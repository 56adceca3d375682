"""The rules that a route is under: its callers, its limit, and the form of its errors.

Each route states beside itself what differs from the default, which is the strict one: a route
needs a token, its POST requests count against the rate limit, and its errors are problems.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar, cast

from flask import current_app, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

View = TypeVar("View", bound=Callable[..., Any])


class Access(Enum):
    """The checks before a route."""

    TOKEN = "token"  # noqa: S105 - a name, and no secret
    """A token or a session, where the server has tokens; the Host and the origin otherwise."""

    SAME_ORIGIN = "same-origin"
    """The Host and the origin only: a person must be able to sign in."""

    PUBLIC = "public"
    """No checks, under any name."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one route.

    Attributes:
        access: The checks before it.
        is_limited: Its POST requests count as questions against QA_RATE_LIMIT.
    """

    access: Access = Access.TOKEN
    is_limited: bool = True


DEFAULT = Policy()


def policy(
    access: Access = DEFAULT.access, *, is_limited: bool = DEFAULT.is_limited
) -> Callable[[View], View]:
    """Return a decorator that sets the rules of a view; see `Policy`."""

    def set_policy(view: View) -> View:
        cast("Any", view).policy = Policy(access, is_limited)
        return view

    return set_policy


def policy_of(view: Callable[..., Any]) -> Policy:
    """Return the rules of a view."""
    rules: Policy = getattr(view, "policy", DEFAULT)
    return rules


def current_policy() -> Policy:
    """Return the rules of the route of the current request; the default for an unknown route."""
    endpoint = current_endpoint()
    return DEFAULT if endpoint is None else policy_of(current_app.view_functions[endpoint])


def current_endpoint() -> str | None:
    """Return the endpoint at the request's path, also where it does not take the method."""
    error = request.routing_exception
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        urls = current_app.create_url_adapter(request)
        with suppress(NotFound):  # a number in the path that is too long to be read
            if urls is not None:
                return str(urls.match(method=next(iter(error.valid_methods)))[0])
    return request.endpoint
