"""Responses that the provider stores: in the background, or with items not in the history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from wire_server import EVENTS, JSON, WireRequest, WireServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from flask.testing import FlaskClient
    from wire_server import Answer

    from qacli.db.records import Store

URL = "/v1/responses"
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Paris", "annotations": []}],
}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "w", "arguments": "{}"}
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


class Keeper:
    """A provider that stores one response.

    Attributes:
        response: The present response; with None the status is 404.
        status: The HTTP status for the stored response.
        requests: The method, the path and the body of each request.
    """

    def __init__(self) -> None:
        self.wire = WireServer()
        self.wire.answer = self.answer
        self.response: dict[str, Any] | None = None
        self.status = 200

    def answer(self, request: WireRequest) -> Answer:
        body = json.dumps(self.response, indent=1).encode()
        if self.response is None:
            return 404, {"content-type": JSON}, b'{"error": {"message": "None."}}'
        if "stream=true" in request.path:
            event = {"type": "response.completed", "response": self.response}
            return 200, {"content-type": EVENTS}, f"data: {json.dumps(event)}\n\n".encode()
        is_first = request.method == "POST" and request.path == URL
        return 200 if is_first else self.status, {"content-type": JSON}, body

    def set(self, status: str, *output: dict[str, Any]) -> None:
        usage = USAGE if output else None
        fields = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m"}
        self.response = {**fields, "status": status, "output": output, "usage": usage}

    @property
    def requests(self) -> list[tuple[str, str]]:
        return [(request.method, request.path) for request in self.wire.requests]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    keeper.wire.close()


@pytest.fixture
def client(store: Store, build: Callable[..., Flask], keeper: Keeper) -> FlaskClient:
    assert store
    return build(base_url=f"{keeper.wire.address}/v1", api="responses").test_client()


def ask(client: FlaskClient, **body: Any) -> None:
    response = client.post(URL, json={"model": "m", "input": "Where?", **body})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("output", "answer"), [((SEARCH, MESSAGE), "Paris"), ((CALL,), "w()")], ids=["text", "call"]
)
def test_background_response_is_recorded_when_it_is_read(
    client: FlaskClient,
    keeper: Keeper,
    store: Store,
    output: tuple[dict[str, Any], ...],
    answer: str,
) -> None:
    keeper.set("queued")
    ask(client, background=True)
    for status in ("queued", "in_progress"):
        keeper.set(status)
        assert client.get(f"{URL}/resp_1").get_json()["status"] == status
        assert store.newest().status == "failed"
    keeper.set("completed", *output)
    for _ in range(2):
        response = client.get(f"{URL}/resp_1")
        assert response.get_json() == json.loads(json.dumps(keeper.response))
        assert response.headers["X-QA-Record"] == "1"
    [record] = store.page(limit=9)
    assert (record.status, record.answer, record.error) == ("answered", answer, None)
    assert (record.completion_tokens, record.provider_response_id) == (4, "resp_1")
    assert record.latency_ms is not None
    assert record.answered_at is not None


@on_sqlite
def test_background_response_that_the_provider_cannot_return_is_not_failed(
    client: FlaskClient, keeper: Keeper
) -> None:
    keeper.set("queued")
    ask(client, background=True)
    keeper.status = 503
    assert client.get(f"{URL}/resp_1").status_code == 503
    keeper.wire.close()
    assert client.get(f"{URL}/resp_1").status_code == 502


@on_sqlite
def test_kept_response_has_the_items_of_the_provider(client: FlaskClient, keeper: Keeper) -> None:
    keeper.set("completed", SEARCH, MESSAGE)
    ask(client)
    response = client.get(f"{URL}/resp_1?include=x")
    assert response.get_json()["output"][0] == SEARCH
    assert client.get(f"{URL}/resp_1/input_items").get_json() == response.get_json()
    text = client.get(f"{URL}/resp_1?stream=true").text
    assert json.loads(text.removeprefix("data: "))["response"]["output"][0] == SEARCH
    assert keeper.requests[1] == ("GET", f"{URL}/resp_1?include=x")


@on_sqlite
@pytest.mark.parametrize("status", [404, 500])
def test_stored_response_deleted_by_the_provider_is_that_of_the_history(
    client: FlaskClient, keeper: Keeper, status: int
) -> None:
    keeper.set("completed", MESSAGE)
    ask(client)
    keeper.status = status
    for path in ("", "?stream=true"):
        if path:
            keeper.response = None
        assert "Paris" in client.get(f"{URL}/resp_1{path}").text
    assert client.get(f"{URL}/resp_1/input_items").get_json()["data"][0]["role"] == "user"


@on_sqlite
def test_response_that_was_not_to_be_stored_is_that_of_the_history(
    client: FlaskClient, keeper: Keeper
) -> None:
    keeper.set("completed", MESSAGE)
    ask(client, store=False)
    assert "Paris" in client.get(f"{URL}/resp_1").text
    assert client.post(f"{URL}/resp_1/cancel").status_code == 400
    assert keeper.requests == [("POST", URL)]


@on_sqlite
def test_background_response_is_cancelled_at_the_provider(
    client: FlaskClient, keeper: Keeper, store: Store
) -> None:
    keeper.set("queued")
    ask(client, background=True)
    keeper.set("cancelled")
    response = client.post(f"{URL}/resp_1/cancel", json={})
    assert (response.status_code, response.get_json()["status"]) == (200, "cancelled")
    assert keeper.requests[-1] == ("POST", f"{URL}/resp_1/cancel")
    assert client.get(f"{URL}/resp_1").get_json()["status"] == "cancelled"
    assert store.newest().status == "failed"
    keeper.response = None
    assert client.post(f"{URL}/resp_1/cancel").status_code == 404
