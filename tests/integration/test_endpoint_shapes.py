"""The shapes of answers that endpoints are known to send, requested by commands and over HTTP.

Each shape has a streamed and a whole form; the server sends the one that is requested.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from endpoint_shapes import ANSWERS, HTTP_SHAPES, Shape
from failure_shapes import FAILURES, HTTP_FAILURES, Failure
from wire_app import WireApp, wire_app

from qacli.cli.exit_codes import EXIT_SOME_ITEMS_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.mark import ParameterSet
    from conftest import Invoke
    from wire_server import Answer, WireRequest, WireServer


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireApp]:
    """The application and its provider, for all tests of the module."""
    with wire_app(tmp_path_factory.mktemp("data")) as app:
        yield app


NO_TEXT = {"tool-call", "image-alone", "reasoning-alone", "filtered"}
"""Complete answers without a text, which `/v1` passes on unchanged."""


@dataclass
class Ask:
    """The ways to ask. Each returns the exit code or the HTTP status, and two texts.

    The texts are standard output and standard error of a command, or twice the body of a response.
    """

    invoke: Invoke
    app: WireApp

    def ask(self, *flags: str) -> tuple[int, str, str]:
        done = self.invoke("ask", "Who?", *flags)
        return done.code, done.out, done.err

    def ask_whole(self) -> tuple[int, str, str]:
        return self.ask("--no-stream")

    def batch(self) -> tuple[int, str, str]:
        # A new question each time: the same file would continue the batch of an earlier test.
        Path("questions.txt").write_text(f"Who is {uuid4()}?\n")
        done = self.invoke("batch", "questions.txt", "--retries", self.invoke.env["QA_RETRIES"])
        return done.code, "hello\n" if '"answer":"hello"' in done.out else done.out, done.err

    def serve(self) -> tuple[int, str, str]:
        return self._request("/ask", {"question": "Who?"})

    def serve_stream(self) -> tuple[int, str, str]:
        return self._request("/ask", {"question": "Who?", "stream": True})

    def chat_completions(self) -> tuple[int, str, str]:
        messages = [{"role": "user", "content": "Who?"}]
        return self._request("/v1/chat/completions", {"model": "m-1", "messages": messages})

    def chat_completions_stream(self) -> tuple[int, str, str]:
        messages = [{"role": "user", "content": "Who?"}]
        body = {"model": "m-1", "messages": messages, "stream": True}
        return self._request("/v1/chat/completions", body)

    def _request(self, path: str, body: object) -> tuple[int, str, str]:
        response = self.app.client.post(path, json=body)
        return response.status_code, response.text, response.text


COMMANDS = [Ask.ask, Ask.ask_whole, Ask.batch]
REQUESTS = [Ask.serve, Ask.serve_stream, Ask.chat_completions, Ask.chat_completions_stream]
Way = Callable[[Ask], tuple[int, str, str]]


@pytest.fixture
def ask(app: WireApp) -> Ask:
    return Ask(app.command(QA_RETRIES="2"), app)


def set_answer(wire: WireServer, shape: Shape | Failure) -> None:
    """Answer each request with the form of the shape that it wants."""

    def answer(request: WireRequest) -> Answer:
        return shape.streamed if json.loads(request.body).get("stream") else shape.whole

    wire.answer = answer


def ways(shapes: list[Any], names: set[str], requests: list[Way]) -> list[ParameterSet]:
    """Return each shape with each way to ask; HTTP only for the shapes with these names."""
    return [
        pytest.param(shape, way, id=f"{shape.name}-{way.__name__}")
        for shape in shapes
        for way in [*COMMANDS, *(requests if shape.name in names else [])]
    ]


@pytest.mark.parametrize(("shape", "way"), ways(ANSWERS, HTTP_SHAPES, REQUESTS))
def test_endpoint_answer_of_each_form_is_read(
    app: WireApp, ask: Ask, shape: Shape, way: Way
) -> None:
    set_answer(app.wire, shape)
    code, out, _err = way(ask)
    assert code == (0 if way in COMMANDS else 200), out
    assert (out == "hello\n") if way in COMMANDS else ("hel" in out)
    record = app.last_record()
    expected = {"answer": "hello", "status": "answered", "error": None, **shape.record}
    assert {name: record[name] for name in expected} == expected
    assert record["endpoint"] == app.wire.address.removeprefix("http://")
    assert len(app.wire.requests) == 1


@pytest.mark.parametrize(
    ("failure", "way"), ways(FAILURES, HTTP_FAILURES, [Ask.serve, Ask.chat_completions])
)
def test_endpoint_failure_of_each_form_is_one_clear_error(
    app: WireApp, ask: Ask, failure: Failure, way: Way
) -> None:
    set_answer(app.wire, failure)
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
    record = app.last_record()
    if way is Ask.chat_completions and failure.name in NO_TEXT:
        assert (record["status"], record["error"]) == ("answered", None)
        return
    assert record["status"] in {"failed", "interrupted"}
    assert record["error"]
    if failure.answer is not None:
        assert record["answer"] == failure.answer
    if not failure.may_pass:
        assert len(app.wire.requests) == 1
