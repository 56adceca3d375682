from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]

ANSWERED = Outcome(status=Status.ANSWERED, answer="Answer")

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def ids(store: Store) -> list[int]:
    """Store seven records; return their ids."""
    return [
        store.upsert(Question(question=str(number), params={"model": "m"}), ANSWERED)
        for number in range(7)
    ]


def ids_in(response: Any) -> list[int]:
    assert response.status_code == 200, response.text
    return [record["id"] for record in response.get_json()]


def next_url(response: Any) -> str | None:
    """Return the URL of the next page in the Link header."""
    if (link := response.headers.get("Link")) is None:
        return None
    found = re.fullmatch(r'<(/[^>]*)>; rel="next"', link)
    assert found, link
    return found[1]


def test_qa_record_is_returned_and_deleted(
    client: FlaskClient, ids: list[int], store: Store, problem: Problem
) -> None:
    address = f"/qa/{ids[2]}"
    assert client.get(address).get_json() == store.get(ids[2]).to_dict()
    response = client.delete(address)
    assert response.status_code == 200
    assert response.get_json() == {"id": ids[2], "deleted": True}
    problem(client.get(address), 404, "not-found")
    problem(client.delete(address), 404, "not-found")
    assert ids_in(client.get("/qas")) == [*ids[:2], *ids[3:]]


@pytest.mark.parametrize("prefer", ["return=minimal", 'respond-async, Return="minimal"; x=1'])
def test_qa_deleted_with_return_minimal_is_204(
    client: FlaskClient, ids: list[int], prefer: str
) -> None:
    response = client.delete(f"/qa/{ids[2]}", headers={"Prefer": prefer})
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Preference-Applied"] == "return=minimal"
    assert client.get(f"/qa/{ids[2]}").status_code == 404


def test_qa_change_with_if_match_needs_the_current_version(
    client: FlaskClient, ids: list[int], store: Store, problem: Problem
) -> None:
    address = f"/qa/{ids[2]}"
    etag = client.get(address).headers["ETag"]
    tagged = client.patch(
        address, json={"add_tags": ["a"]}, headers={"If-Match": f'"other", {etag}'}
    )
    assert tagged.status_code == 200
    assert tagged.headers["ETag"] == client.get(address).headers["ETag"] != etag
    for old in (etag, f"W/{tagged.headers['ETag']}", '"other"', ""):
        headers = {"If-Match": old}
        refused = client.patch(address, json={"add_tags": ["b"]}, headers=headers)
        problem(refused, 412, "precondition-failed")
        problem(client.delete(address, headers=headers), 412, "precondition-failed")
    assert store.get(ids[2]).tags == ["a"]
    any_version = {"If-Match": "*"}
    assert client.patch(address, json={"add_tags": ["b"]}, headers=any_version).status_code == 200
    etag = client.get(address).headers["ETag"]
    assert client.delete(address, headers={"If-Match": etag}).status_code == 200
    problem(client.delete(address, headers=any_version), 404, "not-found")
    problem(client.patch(address, json={}, headers=any_version), 404, "not-found")


def test_qa_changes_with_one_if_match_at_once_change_the_record_once(
    client: FlaskClient, ids: list[int], store: Store
) -> None:
    address = f"/qa/{ids[2]}"
    headers = {"If-Match": client.get(address).headers["ETag"]}

    def tag(number: int) -> int:
        body = {"add_tags": [f"t{number}"]}
        app = client.application.test_client()
        return app.patch(address, json=body, headers=headers).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(tag, range(6))) == [200] + [412] * 5
    assert len(store.get(ids[2]).tags) == 1


@pytest.mark.parametrize("path", ["/qa/0", "/qa/99", f"/qa/{2**63}", f"/qa/{10**40}"])
def test_qa_unknown_record_is_404(client: FlaskClient, path: str, problem: Problem) -> None:
    problem(client.get(path), 404, "not-found")
    problem(client.delete(path), 404, "not-found")


@on_sqlite
@pytest.mark.parametrize("path", ["/qas", "/qas/"])
def test_qas_returns_an_array_oldest_first(client: FlaskClient, ids: list[int], path: str) -> None:
    assert isinstance(client.get(path).get_json(), list)
    assert ids_in(client.get(path)) == ids
    assert list(client.get(path).get_json()[0])[:4] == ["id", "question", "answer", "created_at"]
    assert ids_in(client.get(path, query_string={"order": "desc"})) == ids[::-1]
    assert "Link" not in client.get(path).headers


@on_sqlite
def test_qas_empty_history_is_an_empty_array(client: FlaskClient) -> None:
    assert client.get("/qas").data.strip() == b"[]"


def test_qas_after_and_before_select_by_id(client: FlaskClient, ids: list[int]) -> None:
    assert ids_in(client.get(f"/qas?after={ids[3]}")) == ids[4:]
    assert ids_in(client.get(f"/qas?before={ids[3]}")) == ids[:3]
    assert ids_in(client.get(f"/qas?after={ids[1]}&before={ids[5]}")) == ids[2:5]
    assert ids_in(client.get(f"/qas?after={ids[1]}&limit=2")) == ids[2:4]
    assert ids_in(client.get(f"/qas?before={ids[5]}&order=desc&limit=2")) == [ids[4], ids[3]]


@pytest.mark.parametrize("path", ["/qas", "/qas/"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_qas_links_lead_to_every_record_once(
    client: FlaskClient, ids: list[int], store: Store, path: str, order: str, limit: int
) -> None:
    found: list[int] = []
    address: str | None = f"{path}?order={order}&limit={limit}"
    while address:
        response = client.get(address)
        page = ids_in(response)
        assert 0 < len(page) <= limit
        found += page
        address = next_url(response)
        # A record that is added meanwhile does not move the next pages.
        if order == "desc" and len(found) == limit:
            store.upsert(Question(question="new"), ANSWERED)
    assert found == (ids if order == "asc" else ids[::-1])


def test_qas_links_keep_the_other_bound(client: FlaskClient, ids: list[int]) -> None:
    address: str | None = f"/qas?after={ids[0]}&before={ids[5]}&limit=2"
    found: list[int] = []
    while address:
        response = client.get(address)
        found += ids_in(response)
        address = next_url(response)
    assert found == ids[1:5]


@on_sqlite
@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=-1", "limit=x", "limit=1001", "limit=", "after=-1", "before=x"),
        *("order=up", "colour=red", f"after={2**63}", "limit=1.5"),
        "limit=NaN",
    ],
)
def test_qas_invalid_query_names_the_field(
    client: FlaskClient, query: str, problem: Problem
) -> None:
    members = problem(client.get(f"/qas?{query}"), 422, "invalid-request")
    assert [error["field"] for error in members["errors"]] == [query.partition("=")[0]]


@on_sqlite
@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/qa/", 404, "not-found"),
        ("GET", "/qa/x", 404, "not-found"),
        ("GET", "/qa/-1", 404, "not-found"),
        ("GET", "/qa/1/x", 404, "not-found"),
        ("GET", "/{nowhere}", 404, "not-found"),
        ("GET", "/ask", 405, "method-not-allowed"),
        ("PUT", "/ask", 405, "method-not-allowed"),
        ("POST", "/qas", 405, "method-not-allowed"),
        ("PUT", "/qa/1", 405, "method-not-allowed"),
        ("POST", "/is_up", 405, "method-not-allowed"),
    ],
)
def test_unknown_path_or_method_is_a_problem(
    client: FlaskClient, method: str, path: str, status: int, kind: str, problem: Problem
) -> None:
    response = client.open(path, method=method)
    members = problem(response, status, kind)
    assert path in members["detail"]
    assert (status == 405) == ("Allow" in response.headers)
