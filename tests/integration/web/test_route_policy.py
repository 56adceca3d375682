"""Each route is protected and limited, unless its own declaration excepts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qacli.web.errors import MIME_TYPE
from qacli.web.route_policy import DEFAULT, Access, policy_of

if TYPE_CHECKING:
    from flask import Flask

Problem = Callable[..., dict[str, Any]]

pytestmark = [
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
    pytest.mark.usefixtures("store"),
]

TOKEN = {"Authorization": "Bearer secret-of-the-test"}
TOKENS = {"token": "secret-of-the-test"}


def test_route_policy_of_each_route_is_the_default_or_listed_here(app: Flask) -> None:
    routes = {
        rule.endpoint: (
            policy_of(app.view_functions[rule.endpoint]),
            "POST" in (rule.methods or ()),
        )
        for rule in app.url_map.iter_rules()
    }
    by_access = {
        access: {name for name, (rules, _) in routes.items() if rules.access is access}
        for access in (Access.PUBLIC, Access.SAME_ORIGIN)
    }
    assert by_access == {
        Access.PUBLIC: {"health.is_up", "health.is_ready"},
        Access.SAME_ORIGIN: {"page.static", "signing.form", "signing.sign_in", "signing.sign_out"},
    }
    assert {name for name, (rules, posts) in routes.items() if posts and rules.is_limited} == {
        *("asks.ask", "page.ask", "v1.chat_completions", "v1.completions"),
        *("v1.embeddings", "v1.responses"),
    }


def test_new_route_is_protected_and_limited(build: Callable[..., Flask], problem: Problem) -> None:
    app = build(rate_limit="1/day", **TOKENS)

    @app.post("/new")
    def new() -> str:
        return "done"

    assert policy_of(new) == DEFAULT
    client = app.test_client()
    problem(client.post("/new"), 401, "unauthorized")
    assert client.post("/new", headers=TOKEN).text == "done"
    problem(client.post("/new", headers=TOKEN), 429, "rate-limited")
    # A path without a route is protected, too, and not limited.
    problem(client.get("/nothing"), 401, "unauthorized")
    problem(client.post("/nothing", headers=TOKEN), 404, "not-found")


def test_wrong_method_of_public_route_needs_no_token(
    build: Callable[..., Flask], problem: Problem
) -> None:
    client = build(**TOKENS).test_client()
    response = client.post("/is_up", headers={"Host": "elsewhere.example"})
    problem(response, 405, "method-not-allowed")
    assert "GET" in response.headers["Allow"]
    problem(client.put("/ask"), 401, "unauthorized")


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type"),
    [
        ("GET", "/nothing", 404, MIME_TYPE),
        ("PUT", "/ask", 405, MIME_TYPE),
        ("GET", "/qa/7", 404, MIME_TYPE),
        ("GET", "/v1/nothing", 404, "application/json"),
        ("GET", "/v1/chat/completions", 405, "application/json"),
        ("POST", "/v1/chat/completions", 415, "application/json"),
        ("GET", "/page/7", 404, "text/html; charset=utf-8"),
        ("GET", "/page/nothing", 404, "text/html; charset=utf-8"),
        ("GET", "/page/ask", 405, "text/html; charset=utf-8"),
        ("GET", "/sign-out", 405, "text/html; charset=utf-8"),
        ("PUT", "/", 405, "text/html; charset=utf-8"),
        ("GET", "/static/nothing.js", 404, "text/html; charset=utf-8"),
    ],
)
def test_error_of_route_has_the_form_of_its_blueprint(
    app: Flask, method: str, path: str, status: int, content_type: str
) -> None:
    response = app.test_client().open(path, method=method, headers={"Accept": "text/html, */*"})
    assert (response.status_code, response.content_type) == (status, content_type)


def test_error_of_page_for_program_is_a_problem(app: Flask, problem: Problem) -> None:
    client = app.test_client()
    headers = {"Accept": "application/problem+json"}
    problem(client.get("/page/7", headers=headers), 404, "not-found")
