"""The shapes of answers that endpoints are known to send, asked for in every way.

Each shape comes streamed and whole; a way takes the one that it asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest
from conftest import KEY, Invoke
from endpoint_shapes import ANSWERS, HTTP_SHAPES, Shape
from failure_shapes import FAILURES, HTTP_FAILURES, Failure
from wire_app import wire_client, wire_server, wire_settings

from qacli.cli.exit_codes import EXIT_SOME_ITEMS_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.mark import ParameterSet
    from flask.testing import FlaskClient
    from wire_server import Answer, WireRequest, WireServer

    from qacli.config.settings import Settings


@pytest.fixture(scope="module")
def wire() -> Iterator[WireServer]:
    with wire_server() as server:
        yield server


@pytest.fixture(scope="module")
def settings(wire: WireServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return wire_settings(f"{wire.address}/v1", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[FlaskClient]:
    with wire_client(settings) as client:
        yield client


NO_TEXT = {"tool-call", "image-alone", "reasoning-alone", "filtered"}
"""Complete answers without a text, which a client of `/v1` gets as they are."""


@dataclass
class Ask:
    """Asks in one of the ways; gives the exit code or HTTP status, and the texts."""

    invoke: Invoke
    client: FlaskClient

    def ask(self, *flags: str) -> tuple[int, str, str]:
        done = self.invoke("ask", "Who?", *flags)
        return done.code, done.out, done.err

    def whole(self) -> tuple[int, str, str]:
        return self.ask("--no-stream")

    def batch(self) -> tuple[int, str, str]:
        # Another question than in the batches before it, of which this would be the next run.
        Path("questions.txt").write_text(f"Who is {uuid4()}?\n")
        done = self.invoke("batch", "questions.txt", "--retries", self.invoke.env["QA_RETRIES"])
        return done.code, "hello\n" if '"answer":"hello"' in done.out else done.out, done.err

    def serve(self) -> tuple[int, str, str]:
        return self._request("/ask", {"question": "Who?"})

    def serve_stream(self) -> tuple[int, str, str]:
        return self._request("/ask", {"question": "Who?", "stream": True})

    def door(self) -> tuple[int, str, str]:
        messages = [{"role": "user", "content": "Who?"}]
        return self._request("/v1/chat/completions", {"model": "m-1", "messages": messages})

    def door_stream(self) -> tuple[int, str, str]:
        messages = [{"role": "user", "content": "Who?"}]
        body = {"model": "m-1", "messages": messages, "stream": True}
        return self._request("/v1/chat/completions", body)

    def _request(self, path: str, body: object) -> tuple[int, str, str]:
        response = self.client.post(path, json=body)
        return response.status_code, response.text, response.text

    def record(self) -> dict[str, Any]:
        [record] = self.client.get("/qas?order=desc&limit=1").get_json()
        return cast("dict[str, Any]", record)


COMMANDS = [Ask.ask, Ask.whole, Ask.batch]
REQUESTS = [Ask.serve, Ask.serve_stream, Ask.door, Ask.door_stream]
Way = Callable[[Ask], tuple[int, str, str]]


@pytest.fixture
def ask(wire: WireServer, settings: Settings, client: FlaskClient) -> Ask:
    wire.requests.clear()
    env = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"{wire.address}/v1",
        "QA_DATA_DIR": str(settings.data_dir),
        "QA_MODEL": "m-1",
        "QA_RETRIES": "2",
        "QA_TIMEOUT": "10",
    }
    return Ask(Invoke(env), client)


def play(wire: WireServer, shape: Shape | Failure) -> None:
    def answer(request: WireRequest) -> Answer:
        return shape.streamed if json.loads(request.body).get("stream") else shape.whole

    wire.answer = answer


def ways(shapes: list[Any], names: set[str], requests: list[Way]) -> list[ParameterSet]:
    """Return each shape with each of its ways."""
    return [
        pytest.param(shape, way, id=f"{shape.name}-{way.__name__}")
        for shape in shapes
        for way in [*COMMANDS, *(requests if shape.name in names else [])]
    ]


@pytest.mark.parametrize(("shape", "way"), ways(ANSWERS, HTTP_SHAPES, REQUESTS))
def test_endpoint_answer_of_each_form_is_read(
    wire: WireServer, ask: Ask, shape: Shape, way: Way
) -> None:
    play(wire, shape)
    code, out, _err = way(ask)
    assert code == (0 if way in COMMANDS else 200), out
    assert (out == "hello\n") if way in COMMANDS else ("hel" in out)
    record = ask.record()
    expected = {"answer": "hello", "status": "answered", "error": None, **shape.record}
    assert {name: record[name] for name in expected} == expected
    assert record["endpoint"] == wire.address.removeprefix("http://")
    assert len(wire.requests) == 1


@pytest.mark.parametrize(("failure", "way"), ways(FAILURES, HTTP_FAILURES, [Ask.serve, Ask.door]))
def test_endpoint_failure_of_each_form_is_one_clear_error(
    wire: WireServer, ask: Ask, failure: Failure, way: Way
) -> None:
    play(wire, failure)
    if failure.may_pass:
        ask.invoke.env["QA_RETRIES"] = "0"
    code, out, err = way(ask)
    if way is Ask.batch:
        assert code in {failure.exit_code, EXIT_SOME_ITEMS_FAILED}, err
    elif way in COMMANDS:
        assert code == failure.exit_code, err
        assert failure.text in err
    elif way is Ask.serve or failure.name == "key":
        assert code == failure.status
    else:
        assert (code, out.encode()) == (failure.whole[0], failure.whole[2])
    record = ask.record()
    if way is Ask.door and failure.name in NO_TEXT:
        assert (record["status"], record["error"]) == ("answered", None)
        return
    assert record["status"] in {"failed", "interrupted"}
    assert record["error"]
    if failure.answer is not None:
        assert record["answer"] == failure.answer
    if not failure.may_pass:
        assert len(wire.requests) == 1
