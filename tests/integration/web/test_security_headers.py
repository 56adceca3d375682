from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qacli.web.security_headers import API_CSP, PAGE_CSP

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

APP = "https://app.example.com"
ASK = {"question": "Who am I?"}

# One database: nothing here depends on its kind.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/qas"), ("GET", "/is_up"), ("GET", "/nowhere"), ("GET", "/metrics")),
        *(("PUT", "/ask"), ("POST", "/ask"), ("HEAD", "/qas"), ("OPTIONS", "/qas")),
    ],
)
def test_response_of_every_route_has_security_headers(
    client: FlaskClient, method: str, path: str
) -> None:
    headers = client.open(path, method=method).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


def test_csp_of_pages_allows_own_files_and_of_data_nothing(app: Flask) -> None:
    @app.get("/a-page")
    def page() -> str:
        return "<p>Hello</p>"

    @app.get("/a-bug")
    def bug() -> str:
        raise RuntimeError

    client = app.test_client()
    assert client.get("/a-page").headers["Content-Security-Policy"] == PAGE_CSP
    assert client.get("/a-bug").headers["Content-Security-Policy"] == API_CSP
    assert client.get("/qas").headers["Content-Security-Policy"] == API_CSP
    assert "unsafe" not in PAGE_CSP


def test_security_headers_set_by_a_route_stay(app: Flask) -> None:
    @app.get("/own")
    def own() -> tuple[str, dict[str, str]]:
        return "", {"cache-control": "max-age=9", "Content-Security-Policy": "sandbox"}

    headers = app.test_client().get("/own").headers
    assert headers.getlist("Cache-Control") == ["max-age=9"]
    assert headers.getlist("Content-Security-Policy") == ["sandbox"]


@pytest.fixture
def shared(store: Store, build: Callable[..., Flask]) -> FlaskClient:
    """A client of a server that allows pages of two origins (CORS)."""
    assert store
    return build(tokens="alice=alice-token", cors_origins=f"{APP}, http://[::1]:3000").test_client()


@pytest.mark.parametrize("origin", [APP, "http://[::1]:3000"])
def test_cors_configured_origin_is_allowed(shared: FlaskClient, origin: str) -> None:
    preflight = shared.options(
        "/ask",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
    headers = {
        "Origin": origin,
        "Authorization": "Bearer alice-token",
        "Sec-Fetch-Site": "cross-site",
    }
    response = shared.post("/ask", json=ASK, headers=headers)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert "X-Request-Id" in response.headers["Access-Control-Expose-Headers"]
    # The token is in a header, so cross-origin requests need no cookies.
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "https://app.example.com.evil.example", "null"),
        *("http://app.example.com", "https://app.example.com:8443", "https://appXexample.com"),
        *("https://app.example.com ", "https://x.app.example.com", "http://[::1]:30000", ""),
    ],
)
def test_cors_other_origin_is_refused(shared: FlaskClient, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = shared.options("/ask", headers=asked)
    assert preflight.status_code == 401
    assert "Access-Control-Allow-Origin" not in preflight.headers
    response = shared.get("/qas", headers={"Origin": origin})
    assert response.status_code == 401
    assert "Access-Control-Allow-Origin" not in response.headers


def test_cors_responses_vary_by_origin(shared: FlaskClient) -> None:
    for headers in ({}, {"Origin": APP}, {"Origin": "https://evil.example"}):
        assert "Origin" in shared.get("/qas", headers=headers).headers["Vary"]


def test_cors_error_is_readable_by_a_configured_origin(shared: FlaskClient) -> None:
    response = shared.get("/qas", headers={"Origin": APP})
    assert response.status_code == 401
    assert response.headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.usefixtures("store")
def test_cors_without_tokens_only_a_configured_origin_writes(build: Callable[..., Flask]) -> None:
    client = build(cors_origins=APP).test_client()
    for origin, status in ((APP, 200), ("https://evil.example", 403)):
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        assert client.post("/ask", json=ASK, headers=headers).status_code == status


def test_cors_unset_sends_no_headers(client: FlaskClient) -> None:
    headers = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    for response in (client.options("/ask", headers=headers), client.get("/qas", headers=headers)):
        assert not [name for name, _ in response.headers if name.startswith("Access-Control-")]
