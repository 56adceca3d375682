"""Answers of a provider on the wire: redirects, and JSON of great depth or with great numbers."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib
from contextlib import ExitStack, closing, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from conftest import texts_of
from wire_server import EVENTS, JSON, Answer, WireRequest, WireServer, raw_server

from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Question
from qacli.errors import (
    BrokenAnswer,
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnreachable,
)
from qacli.provider.client import TRAILING_USAGE_TIMEOUT
from qacli.provider.endpoint import Endpoint
from qacli.provider.response import ChatResponse
from qacli.provider.sync import SyncProvider

if TYPE_CHECKING:
    import socket
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


def provider_for(base_url: str, connections: int | None, **limits: float) -> SyncProvider:
    options: dict[str, Any] = {"retries": 0, "timeout": 20, **limits}
    settings = Settings(api_key=KEY, base_url=base_url, model="m-1", **options)
    endpoint = Endpoint(base_url=base_url, key=KEY, model="m-1", weights=None)
    return SyncProvider(endpoint, settings, connections=connections)


def provider_at(wire: WireServer, connections: int | None) -> SyncProvider:
    return provider_for(f"{wire.address}/v1", connections)


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
def test_provider_redirect_on_one_host_is_followed_unchanged(
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
def test_provider_redirect_to_another_host_is_refused(
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


@cache
def gzip_bomb(mebibytes: int) -> bytes:
    """Return a gzip stream that is a thousand times larger when it is decompressed."""
    packer = zlib.compressobj(9, wbits=31)
    piece = b" " * 2**20
    start = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, the same piece becomes the same bytes.
    same = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + same * (mebibytes - 1)


@clients
@pytest.mark.parametrize("path", ["/v1", ""])
@pytest.mark.parametrize("status", [200, 400])
def test_provider_gzip_bomb_is_an_error_at_little_memory(
    wire: WireServer, connections: int | None, status: int, path: str
) -> None:
    headers = {"content-type": JSON, "content-encoding": "gzip"}
    wire.answers[f"{path}/chat/completions"] = (status, headers, gzip_bomb(210))
    provider = provider_for(f"{wire.address}{path}", connections)
    tracemalloc.start()
    with closing(provider), pytest.raises(ProviderError) as error:
        ask(provider, whole=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 2**20
    assert ("larger than 64 MiB" in error.value.what) == (status == 200)
    assert not error.value.retryable


@clients
def test_provider_endless_stream_ends_at_the_limit_of_size(connections: int | None) -> None:
    piece = b"data: " + json.dumps({"choices": [{"delta": {}}], "pad": "x" * 2**16}).encode()

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        with suppress(OSError):
            while True:
                connection.sendall(piece + b"\n\n")

    with (
        raw_server(answer) as base_url,
        closing(provider_for(base_url, connections)) as provider,
        pytest.raises(BrokenAnswer, match="larger than 64 MiB"),
    ):
        ask(provider, whole=False)


@clients
def test_provider_stream_of_single_bytes_ends_at_the_time_limit(connections: int | None) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        with suppress(OSError):
            while True:
                connection.sendall(b":\n")
                time.sleep(0.05)

    with (
        raw_server(answer) as base_url,
        closing(provider_for(base_url, connections, timeout=1)) as provider,
        pytest.raises(ProviderTimeout, match="within 1 s"),
    ):
        ask(provider, whole=False)


@clients
def test_provider_whole_answer_before_the_connection_broke_is_kept(connections: int | None) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n"

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head + WHOLE)

    with raw_server(answer) as url, closing(provider_for(url, connections)) as provider:
        assert ask(provider, whole=True) == "hello"


@pytest.mark.parametrize("text", ["content", "reasoning_content"])
def test_provider_finish_reason_in_each_piece_is_not_the_end(text: str) -> None:
    pieces = [{"delta": {text: "so"}, "finish_reason": "stop"}, CHUNK]
    events = [b"data: %b\n\n" % json.dumps({"choices": [piece]}).encode() for piece in pieces]

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        connection.sendall(events[0])
        time.sleep(TRAILING_USAGE_TIMEOUT + 0.3)
        connection.sendall(events[1] + b"data: [DONE]\n\n")

    with raw_server(answer) as url, closing(provider_for(url, None)) as provider:
        assert ask(provider, whole=False).endswith("hello")


@clients
@pytest.mark.parametrize("size", [10_000, 60_000])
def test_provider_long_header_is_read(connections: int | None, size: int) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"content-security-policy: {'x' * size}\r\ncontent-length: {len(WHOLE)}\r\n\r\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head.encode() + WHOLE)

    with raw_server(answer) as url, closing(provider_for(url, connections)) as provider:
        assert ask(provider, whole=True) == "hello"


@clients
@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\na header: with a space\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nlong: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
    ids=["ssh", "header-name", "endless-header"],
)
def test_provider_response_that_is_no_http_is_one_error(
    connections: int | None, content: bytes
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(content)

    with (
        raw_server(answer) as url,
        closing(provider_for(url, connections)) as provider,
        pytest.raises(ProviderUnreachable, match=r"The connection to .* failed: \w"),
    ):
        ask(provider, whole=True)


def test_provider_that_only_streams_is_asked_again_with_a_stream(wire: WireServer) -> None:
    refusal = b'{"error": {"message": "This model only support stream mode."}}'

    def answer(request: WireRequest) -> Answer:
        if json.loads(request.body)["stream"]:
            return 200, {"content-type": EVENTS}, STREAM
        return 400, {"content-type": JSON}, refusal

    wire.answer = answer
    with closing(provider_at(wire, None)) as provider:
        assert ask(provider, whole=True) == "hello"
        assert ask(provider, whole=True) == "hello"
    assert [json.loads(request.body)["stream"] for request in wire.requests] == [False, True, True]


@clients
def test_provider_comments_are_a_sign_of_life(connections: int | None) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for _ in range(20):
            connection.sendall(b": keep-alive\n\n")
            time.sleep(0.1)
        connection.sendall(STREAM)
        connection.close()

    with (
        raw_server(answer) as base_url,
        closing(provider_for(base_url, connections, first_token_timeout=1)) as provider,
    ):
        assert ask(provider, whole=False) == "hello"


def test_provider_retry_after_a_year_is_not_waited_for(wire: WireServer) -> None:
    headers = {"retry-after": str(365 * 24 * 3600)}
    wire.answers["/v1/chat/completions"] = (429, headers, b"{}")
    base_url = f"{wire.address}/v1"
    with (
        closing(provider_for(base_url, None, retries=3)) as provider,
        pytest.raises(ProviderUnavailable),
    ):
        ask(provider, whole=False)
    assert len(wire.requests) == 1
