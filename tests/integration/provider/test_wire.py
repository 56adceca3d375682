"""Answers of a provider on the wire: redirects, and JSON of great depth or with great numbers."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
from conftest import texts_of
from wire_server import EVENTS, JSON, WireServer

from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Question
from qacli.errors import BrokenAnswer, ProviderError, ProviderRefused
from qacli.provider.endpoint import Endpoint
from qacli.provider.response import ChatResponse
from qacli.provider.sync import SyncProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-test-0123456789abcdef"
CHOICE = {"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}
WHOLE = json.dumps({"id": "c1", "model": "m-1", "choices": [CHOICE]}).encode()
CHUNK = {"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}
STREAM = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"id": "c1", "choices": [CHUNK]}).encode()
MODELS = b'{"data": [{"id": "m-1"}]}'


@pytest.fixture
def new_wire() -> Iterator[Callable[[], WireServer]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(WireServer()))


@pytest.fixture
def wire(new_wire: Callable[[], WireServer]) -> WireServer:
    return new_wire()


def provider_at(wire: WireServer, connections: int | None) -> SyncProvider:
    base = f"{wire.address}/v1"
    settings = Settings(api_key=KEY, base_url=base, model="m-1", retries=0, timeout=20)
    endpoint = Endpoint(base_url=base, key=KEY, model="m-1", weights=None)
    return SyncProvider(endpoint, settings, connections=connections)


def ask(provider: SyncProvider, *, whole: bool) -> str:
    question = Question(question="the whole prompt", params={"model": "m-1"})
    return "".join(
        texts_of(provider.stream(ChatRequest(question=question, stream=not whole), ChatResponse()))
    )


clients = pytest.mark.parametrize("connections", [None, 4], ids=["httpx2", "aiohttp"])
ways = pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])


@clients
@ways
@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("absolute", [False, True])
def test_provider_redirect_on_the_same_host_is_followed_as_the_same_request(
    wire: WireServer, status: int, connections: int | None, *, whole: bool, absolute: bool
) -> None:
    start = wire.address if absolute else ""
    for path, body in (("/chat/completions", WHOLE if whole else STREAM), ("/models", MODELS)):
        wire.answers[f"/v1{path}"] = (status, {"location": f"{start}/moved/v1{path}"}, b"")
        kind = EVENTS if body is STREAM else JSON
        wire.answers[f"/moved/v1{path}"] = (200, {"content-type": kind}, body)
    with closing(provider_at(wire, connections)) as provider:
        assert ask(provider, whole=whole) == "hello"
        assert provider.models() == [{"id": "m-1"}]
    first, second, third, fourth = wire.requests
    assert (first[0], first[3]) == (second[0], second[3])
    assert (second[0], third[0], fourth[0]) == ("POST", "GET", "GET")
    assert {each[2]["authorization"] for each in wire.requests} == {f"Bearer {KEY}"}


@clients
@ways
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_provider_redirect_to_another_host_gets_nothing_and_is_refused(
    wire: WireServer,
    new_wire: Callable[[], WireServer],
    status: int,
    connections: int | None,
    *,
    whole: bool,
) -> None:
    other = new_wire()
    for path in ("/v1/chat/completions", "/v1/models"):
        wire.answers[path] = (status, {"location": f"{other.address}{path}"}, b"")
    with closing(provider_at(wire, connections)) as provider:
        for call in (lambda: ask(provider, whole=whole), provider.models):
            with pytest.raises(ProviderRefused) as refused:
                call()
            assert refused.value.exit_code == 5
            if status != 303:
                assert other.address.removeprefix("http://") in refused.value.what
                assert f"OPENAI_BASE_URL to {other.address}/v1." in refused.value.todo
    assert other.requests == []


def test_provider_redirect_in_a_circle_ends(wire: WireServer) -> None:
    location = {"location": "/v1/chat/completions"}
    wire.answers["/v1/chat/completions"] = (308, location, b"")
    with closing(provider_at(wire, None)) as provider, pytest.raises(ProviderRefused):
        ask(provider, whole=False)
    assert len(wire.requests) == 6


DEEP = {
    "deep-list": "[" * 100_000 + "]" * 100_000,
    "deep-object": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "less-deep": "[" * 900 + "]" * 900,
    "digits": "1" * 5000,
}


@clients
@ways
@pytest.mark.parametrize("value", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("place", ["{}", '{{"error": {}}}', '{{"error": {{"message": {}}}}}'])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_provider_json_of_great_depth_is_a_provider_failure(
    wire: WireServer, status: int, place: str, value: str, connections: int | None, *, whole: bool
) -> None:
    body = place.format(value).encode()
    for kind, sent in ((JSON, body), (EVENTS, b"data: %b\n\n" % body)):
        wire.answers["/v1/chat/completions"] = (status, {"content-type": kind}, sent)
        wire.answers["/v1/models"] = (status, {"content-type": kind}, sent)
        with closing(provider_at(wire, connections)) as provider:
            with pytest.raises(ProviderError) as failed:
                ask(provider, whole=whole)
            assert failed.value.exit_code in {5, 6}
            if (status, value, kind) == (200, DEEP["deep-list"], JSON if whole else EVENTS):
                assert isinstance(failed.value, BrokenAnswer)
                assert "nested too deeply" in failed.value.what
            if status != 200 or value != DEEP["less-deep"]:
                with pytest.raises(ProviderError):
                    provider.models()


def test_provider_models_with_deep_members_are_listed(wire: WireServer) -> None:
    models: dict[str, Any] = {"data": [{"id": "m-1", "created": 1}]}
    body = json.dumps(models).replace("1}", f'1, "owned_by": {"[" * 200}{"]" * 200}}}')
    wire.answers["/v1/models"] = (200, {"content-type": JSON}, body.encode())
    with closing(provider_at(wire, None)) as provider:
        assert [each["id"] for each in provider.models()] == ["m-1"]
