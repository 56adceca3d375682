"""The policy of a route: its access checks, and its share in the rate limit.

The default is strict: a route needs a token, and its POST requests count. A route with another
policy has the decorator `policy`.

The policy is not about single records: a caller reads and deletes only records of its own, by the
conditions of `RecordQueries._owned` in `db.record_queries`.
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

    TOKEN = "token"  # noqa: S105 - a name, not a secret
    """A token or a session if the server has tokens; otherwise the Host and the origin."""

    SAME_ORIGIN = "same-origin"
    """Only the Host and the origin, for pages that must work before signing in."""

    PUBLIC = "public"
    """No checks, and any Host."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one route.

    Attributes:
        access: The checks before it.
        is_limited: Its requests count as questions against QA_RATE_LIMIT and QA_BUDGETS.
        limited_methods: The methods of the requests that count.
    """

    access: Access = Access.TOKEN
    is_limited: bool = True
    limited_methods: frozenset[str] = frozenset({"POST"})


DEFAULT = Policy()


def policy(
    access: Access = DEFAULT.access,
    *,
    is_limited: bool = DEFAULT.is_limited,
    limited_methods: frozenset[str] = DEFAULT.limited_methods,
) -> Callable[[View], View]:
    """Return a decorator that sets the rules of a view; see `Policy`."""

    def set_policy(view: View) -> View:
        cast("Any", view).policy = Policy(access, is_limited, limited_methods)
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


def is_question() -> bool:
    """Return whether the current request counts as a question."""
    rules = current_policy()
    is_limited = rules.is_limited and request.method in rules.limited_methods
    return request.endpoint is not None and is_limited


def current_endpoint() -> str | None:
    """Return the name of the endpoint for the request's path, even if it refuses the method."""
    error = request.routing_exception
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        urls = current_app.create_url_adapter(request)
        with suppress(NotFound):  # a number in the path is too long
            if urls is not None:
                return str(urls.match(method=next(iter(error.valid_methods)))[0])
    return request.endpoint
