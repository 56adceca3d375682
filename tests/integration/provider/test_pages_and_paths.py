"""A list of models in pages, and a base URL without `/v1` for a request that is passed on."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from conftest import KEY, migrated, texts_of
from wire_server import JSON, WireServer

from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Question
from qacli.provider.endpoint import Endpoint
from qacli.provider.response import ChatResponse
from qacli.provider.sync import SyncProvider
from qacli.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


CHOICE = {"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}
ANSWER = json.dumps({"id": "c", "model": "m", "choices": [CHOICE]}).encode()


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with closing(WireServer()) as server:
        yield server


def page(*ids: str, more: bool) -> tuple[int, dict[str, str], bytes]:
    body = {"data": [{"id": name} for name in ids], "has_more": more, "last_id": ids[-1]}
    return 200, {"content-type": JSON}, json.dumps(body).encode()


@pytest.mark.parametrize("query", ["", "?x=1"])
def test_models_in_pages_are_all_listed(wire: WireServer, query: str) -> None:
    base_url = f"{wire.address}/v1{query}"
    start = query or "?"
    glue = "&" if query else ""
    wire.answers[f"/v1/models{query}"] = page("a", "b/c", more=True)
    following = f"/v1/models{start}{glue}limit=1000&after_id=b%2Fc"
    wire.answers[following] = page("d", more=False)
    settings = Settings(api_key=KEY, base_url=base_url, model="m", retries=0)
    endpoint = Endpoint(base_url=base_url, key=KEY, model="m")
    with closing(SyncProvider(endpoint, settings)) as provider:
        assert [model["id"] for model in provider.models()] == ["a", "b/c", "d"]


def test_models_in_a_page_that_names_itself_end(wire: WireServer) -> None:
    wire.answer = lambda _request: page("a", more=True)
    base_url = f"{wire.address}/v1"
    settings = Settings(api_key=KEY, base_url=base_url, model="m", retries=0)
    endpoint = Endpoint(base_url=base_url, key=KEY, model="m")
    with closing(SyncProvider(endpoint, settings)) as provider:
        assert [model["id"] for model in provider.models()] == ["a", "a"]
    assert len(wire.requests) == 2


def test_base_url_without_v1_is_learned_by_a_request_passed_on(
    wire: WireServer, tmp_path: Path
) -> None:
    wire.answers["/v1/chat/completions"] = (200, {"content-type": JSON}, ANSWER)
    settings = Settings(api_key=KEY, base_url=wire.address, model="m", data_dir=tmp_path)
    migrated(settings).close()
    client = create_app(settings).test_client()
    messages = [{"role": "user", "content": "Who?"}]
    for _ in range(2):
        response = client.post("/v1/chat/completions", json={"model": "m", "messages": messages})
        assert (response.status_code, response.data) == (200, ANSWER)
    paths = [request.path for request in wire.requests]
    path = "/chat/completions"
    assert paths == [path, f"/v1{path}", f"/v1{path}"]
    [record, _] = client.get("/qas").get_json()
    assert record["answer"] == "hello"


def answer_at(wire: WireServer, data_dir: Path, connections: int | None) -> str:
    """Ask at the address of a server, without `/v1`, and return the answer."""
    settings = Settings(api_key=KEY, base_url=wire.address, model="m", data_dir=data_dir, retries=0)
    endpoint = Endpoint(base_url=wire.address, key=KEY, model="m")
    request = ChatRequest(question=Question(question="Who?", params={"model": "m"}))
    with closing(SyncProvider(endpoint, settings, connections=connections)) as provider:
        return "".join(texts_of(provider.stream(request, ChatResponse())))


@pytest.mark.parametrize("connections", [None, 4], ids=["httpx2", "aiohttp"])
def test_base_url_of_a_server_with_an_error_as_success_finds_v1(
    wire: WireServer, tmp_path: Path, connections: int | None
) -> None:
    error = b'{"error": "Unexpected endpoint or method. (POST /chat/completions)"}'  # LM Studio
    wire.answers["/chat/completions"] = 200, {"content-type": JSON}, error
    wire.answers["/v1/chat/completions"] = 200, {"content-type": JSON}, ANSWER
    assert answer_at(wire, tmp_path, connections) == "hello"
    assert answer_at(wire, tmp_path, connections) == "hello"
    paths = [request.path for request in wire.requests]
    assert paths == ["/chat/completions", "/v1/chat/completions", "/v1/chat/completions"]


@pytest.mark.parametrize("connections", [None, 4], ids=["httpx2", "aiohttp"])
@pytest.mark.parametrize("kind", [JSON, "text/html; charset=UTF-8"])
def test_base_url_with_a_response_of_any_type_is_unchanged(
    wire: WireServer, tmp_path: Path, kind: str, connections: int | None
) -> None:
    wire.answers["/chat/completions"] = 200, {"content-type": kind}, ANSWER
    assert answer_at(wire, tmp_path, connections) == "hello"
    assert len(wire.requests) == 1
