"""`/v1` when the connection to the provider breaks, or its response is not HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from wire_app import wire_client, wire_settings
from wire_server import EVENTS, JSON, raw_server

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from werkzeug.test import TestResponse

CHOICE = {"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}
CHUNK = {"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}
WHOLE = json.dumps({"id": "c1", "model": "m-1", "choices": [CHOICE]}).encode()
PIECE = {"index": 0, "id": "t1", "function": {"name": "f", "arguments": '{"a'}}
CALL = b"data: %b\n\n" % json.dumps({"choices": [{"delta": {"tool_calls": [PIECE]}}]}).encode()
STREAM = b"data: %b\n\n" % json.dumps({"id": "c1", "choices": [CHUNK]}).encode()


def exchange(tmp_path: Path, sent: bytes, *, streams: bool) -> tuple[TestResponse, dict[str, Any]]:
    """Return the response of `/v1` and its record, if the provider sends these bytes and closes."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(sent)

    body = {"messages": [{"role": "user", "content": "Who?"}], "stream": streams}
    with raw_server(answer) as url, wire_client(wire_settings(url, tmp_path)) as client:
        response = client.post("/v1/chat/completions", json=body, buffered=True)
        [record] = client.get("/qas").get_json()
    return response, record


def head(kind: str, length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_response_with_a_whole_answer_before_the_connection_broke_is_kept(
    tmp_path: Path, *, streams: bool
) -> None:
    content = STREAM if streams else WHOLE
    kind = EVENTS if streams else JSON
    response, record = exchange(tmp_path, head(kind, 9999) + content, streams=streams)
    assert (response.status_code, response.data) == (200, content)
    assert (record["status"], record["answer"]) == ("answered", "hello")


@pytest.mark.parametrize("content", [b": keep-alive\n\n", CALL], ids=["comment", "call"])
def test_response_stream_without_text_and_end_is_recorded_as_failed(
    tmp_path: Path, content: bytes
) -> None:
    sent = head(EVENTS, len(content)) + content
    response, record = exchange(tmp_path, sent, streams=True)
    assert (response.status_code, response.data) == (200, content)
    assert (record["status"], record["error_kind"]) == ("failed", "broken-answer")


def test_response_that_is_no_http_is_an_error_of_the_provider(tmp_path: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

    body = {"messages": [{"role": "user", "content": "Who?"}]}
    with raw_server(answer) as url, wire_client(wire_settings(url, tmp_path)) as client:
        response = client.post("/v1/chat/completions", json=body)
        [record] = client.get("/qas").get_json()
    assert response.status_code == 502
    assert response.get_json()["error"]["code"] == "provider_unreachable"
    assert (record["status"], record["error_kind"]) == ("failed", "provider-unreachable")
