from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask import Flask
    from flask.testing import FlaskClient


Problem = Callable[..., dict[str, Any]]
ASK = {"question": "Who am I?"}

# One database: nothing here depends on its kind.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LOCALHOST:8000", "localhost.", "127.0.0.1"),
        *("127.0.0.1:8000", "[::1]", "[::1]:8000"),
    ],
)
def test_host_of_this_machine_is_allowed(client: FlaskClient, host: str) -> None:
    assert client.get("/qas", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("localhost@evil.example", "evil.example#localhost", "[::2]", "8.8.8.8"),
    ],
)
def test_host_of_another_name_is_refused(
    client: FlaskClient, provider: FakeProvider, host: str, problem: Problem
) -> None:
    for path in ("/qas", "/qa/1", "/nowhere"):
        problem(client.get(path, headers={"Host": host}), 403, "forbidden")
    problem(client.post("/ask", json=ASK, headers={"Host": host}), 403, "forbidden")
    assert provider.requests == []


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("allowed", "status"), [("a.example, qa.lan", 200), ("*", 200), ("b", 403)]
)
def test_host_in_allowed_hosts_is_allowed(
    build: Callable[..., Flask], allowed: str, status: int
) -> None:
    client = build(allowed_hosts=allowed).test_client()
    assert client.get("/qas", headers={"Host": "QA.lan:8000"}).status_code == status


@pytest.mark.parametrize("host", [":80", "[", "#localhost"])
def test_host_missing_or_malformed_is_refused(
    client: FlaskClient, host: str, problem: Problem
) -> None:
    problem(client.get("/qas", headers={"Host": host}), 403, "forbidden")


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost:9"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost@evil.example"}, False),
    ],
    ids=str,
)
def test_write_from_another_site_is_refused(
    client: FlaskClient,
    provider: FakeProvider,
    headers: dict[str, str],
    *,
    allowed: bool,
    problem: Problem,
) -> None:
    response = client.post("/ask", json=ASK, headers=headers)
    if allowed:
        assert response.status_code == 200
    else:
        problem(response, 403, "forbidden")
        problem(client.delete("/qa/1", headers=headers), 403, "forbidden")
        assert provider.requests == []
    # Reading is safe: the browser hides the response from a page of another origin.
    assert client.get("/qas", headers=headers).status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers


def test_write_with_a_malformed_origin_is_refused(client: FlaskClient, problem: Problem) -> None:
    problem(client.post("/ask", json=ASK, headers={"Origin": "http://["}), 403, "forbidden")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("authorization", "right"),
    [
        (None, False),
        ("", False),
        ("Bearer", False),
        ("Bearer wrong", False),
        ("Bearer s3cret-token ß", False),
        ("Bearer s3cret", False),
        ("Basic s3cret-token", False),
        ("s3cret-token", False),
        ("Bearer s3cret-token", True),
        ("bearer s3cret-token", True),
    ],
    ids=str,
)
def test_request_without_the_token_is_refused(
    build: Callable[..., Flask],
    provider: FakeProvider,
    problem: Problem,
    authorization: str | None,
    *,
    right: bool,
) -> None:
    client = build(token="s3cret-token").test_client()
    headers = {} if authorization is None else {"Authorization": authorization}
    # With the right token, any Host and any Origin are allowed.
    headers |= {"Host": "qa.example", "Origin": "https://elsewhere.example"}
    asked, listed = (
        client.post("/ask", json=ASK, headers=headers),
        client.get("/qas", headers=headers),
    )
    if right:
        assert (asked.status_code, listed.status_code) == (200, 200)
    else:
        for response in (asked, listed, client.get("/nowhere", headers=headers)):
            problem(response, 401, "unauthorized")
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert "s3cret-token" not in response.text
        assert provider.requests == []
    assert client.get("/is_up", headers=headers).status_code == 200


NAMED = {"tokens": "alice=alice-token, bob=bob-token"}


def as_bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.usefixtures("store")
def test_record_of_a_named_token_has_the_callers_name(build: Callable[..., Flask]) -> None:
    client = build(token="unnamed-token", **NAMED).test_client()
    for token, name in (
        ("alice-token", "alice"),
        ("bob-token", "bob"),
        ("unnamed-token", "default"),
    ):
        record = client.post("/ask", json=ASK, headers=as_bearer(token)).get_json()
        assert record["caller"] == name
        assert client.get(f"/qa/{record['id']}", headers=as_bearer(token)).get_json() == record


def test_record_without_tokens_has_no_caller(client: FlaskClient) -> None:
    assert client.post("/ask", json=ASK, headers=as_bearer("any")).get_json()["caller"] is None


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "token",
    ["alice", "alice=alice-token", "alice-token,bob=bob-token", "alice-tokenbob-token", ","],
)
def test_token_of_several_must_match_completely(
    build: Callable[..., Flask], problem: Problem, token: str
) -> None:
    client = build(**NAMED).test_client()
    problem(client.get("/qas", headers=as_bearer(token)), 401, "unauthorized")
    for cookie in ("qa_session", "qa_token"):
        client.set_cookie(cookie, token)
    problem(client.get("/qas"), 401, "unauthorized")


@pytest.mark.usefixtures("store")
def test_token_beyond_ascii_is_accepted(build: Callable[..., Flask]) -> None:
    client = build(tokens="alice=schlüssel").test_client()
    wire_question = "Bearer schlüssel".encode().decode("latin-1")
    assert client.get("/qas", headers={"Authorization": wire_question}).status_code == 200


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
    ids=str,
)
def test_cookie_from_another_site_is_refused(
    build: Callable[..., Flask], headers: dict[str, str], status: int
) -> None:
    client = build(**NAMED).test_client()
    host = headers.get("Host", "localhost")
    client.post("/sign-in", data={"token": "bob-token"})
    session = client.get_cookie("qa_session")
    assert session is not None
    client.set_cookie("qa_session", session.value, domain=host)
    response = client.post("/ask", json=ASK, headers=headers, base_url=f"http://{host}")
    assert response.status_code == status
    if status == 200:
        assert response.get_json()["caller"] == "bob"


@pytest.mark.usefixtures("store")
def test_wrong_bearer_token_with_a_valid_cookie_is_refused(
    build: Callable[..., Flask], problem: Problem
) -> None:
    client = build(**NAMED).test_client()
    client.post("/sign-in", data={"token": "bob-token"})
    assert client.get("/qas").status_code == 200
    problem(client.get("/qas", headers=as_bearer("wrong")), 401, "unauthorized")
    problem(client.get("/qas", headers={"Authorization": "Basic x"}), 401, "unauthorized")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/", "/static/nothing.css", "/static/../qas"])
def test_open_paths_still_check_the_host(build: Callable[..., Flask], path: str) -> None:
    client = build(**NAMED).test_client()
    open_to_all = client.get(path)
    assert open_to_all.status_code in {200, 404}
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "path",
    ["/sign-in/x", "/static", "/Static/x", "//static/x", "/is_up/x", "/metrics", "/metrics/"],
)
def test_path_similar_to_an_open_one_needs_the_token(
    build: Callable[..., Flask], path: str, problem: Problem
) -> None:
    response = build(**NAMED).test_client().get(path, follow_redirects=False)
    problem(response, 401, "unauthorized")


@pytest.mark.usefixtures("store")
def test_token_is_not_logged(build: Callable[..., Flask], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    client = build(token="s3cret-token").test_client()
    client.get("/qas?token=s3cret-token", headers={"Authorization": "Bearer s3cret-token"})
    assert "GET /qas 422" in caplog.text
    assert "s3cret-token" not in caplog.text


def test_model_of_a_local_file_in_a_request_is_refused(
    client: FlaskClient, provider: FakeProvider, problem: Problem
) -> None:
    for model in ("local", "local:", "local:/etc/passwd"):
        response = client.post("/ask", json={**ASK, "model": model})
        members = problem(response, 422, "invalid-request")
        assert "passwd" not in members["detail"]
    # For the provider, a path is the name of a model like any other.
    assert client.post("/ask", json={**ASK, "model": "/etc/passwd"}).status_code == 200
    assert [request.body["model"] for request in provider.requests] == ["/etc/passwd"]
