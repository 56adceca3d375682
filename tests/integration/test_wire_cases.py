"""Every case of `tests/support/wire_cases.json`, streamed and whole, in every way of asking.

`/v1` passes a response on as it came; there the record has the case's outcome.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest
from conftest import KEY, Invoke
from wire_app import wire_client, wire_server, wire_settings
from wire_server import EVENTS, JSON, Answer, WireRequest, WireServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

    from qacli.config.settings import Settings

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "support" / "wire_cases.json").read_text()
)
BY_NAME = {case["name"]: case for case in CASES}
HELLO = BY_NAME["done-without-finish-reason"]["body"]
RECORD_FIELDS = (
    *("answer", "reasoning", "prompt_tokens", "completion_tokens", "cached_tokens"),
    *("reasoning_tokens", "cost_usd", "status"),
)
ADAPTED = {"stream-refused", "stream-options-refused", "max-tokens-refused"}
"""The refusals after which a question is asked once more; `/v1` passes them on."""

QUERY = "?api-version=2025-04-01"
"""In the base URL of all cases; one of them is about it."""


def merged(stream: str) -> dict[str, Any]:
    """Return the chunks of a stream as one whole answer."""
    message: dict[str, Any] = {"role": "assistant"}
    document: dict[str, Any] = {"id": "c1", "model": "m-1"}
    finish = None
    for line in stream.splitlines():
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(line.removeprefix("data: "))
        document |= {"usage": chunk["usage"]} if "usage" in chunk else {}
        for choice in chunk.get("choices", []):
            if choice["index"] == 0:
                finish = choice["finish_reason"] or finish
                for name, text in choice["delta"].items():
                    message[name] = text if name == "role" else message.get(name, "") + text
    return {**document, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def as_stream(document: dict[str, Any]) -> str:
    """Return a whole answer as a stream of one chunk."""
    [choice] = document["choices"]
    chunk = {**document, "choices": [{**choice, "delta": choice["message"]}]}
    del chunk["choices"][0]["message"]
    return f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"


def body_of(case: dict[str, Any], body: str, *, streams: bool) -> tuple[str, bytes]:
    """Return a body in the form that is asked for, with its content type."""
    is_stream = "data: " in body
    if streams:
        return EVENTS, (body if is_stream else as_stream(json.loads(body))).encode()
    whole = json.dumps(merged(body)) if is_stream else body
    return JSON, (whole[:-30] if case["name"] == "cut-without-done" else whole).encode()


def play(wire: WireServer, case: dict[str, Any]) -> None:
    when, name = case["when"], case["name"]

    def answer(request: WireRequest) -> Answer:
        sent = json.loads(request.body)
        streams = bool(sent.get("stream"))
        if name == "moved-308-same-host" and request.path.startswith("/moved/"):
            kind, content = body_of(case, HELLO, streams=streams)
            return 200, {"content-type": kind}, content
        if name == "stream-refused" and not streams:
            return 200, {"content-type": JSON}, when["then"].encode()
        fields = [field for field in ("stream_options", "max_tokens") if f"body.{field}" in when]
        if fields and not any(field in sent for field in fields):
            kind, content = body_of(case, when["then_stream"], streams=streams)
            return 200, {"content-type": kind}, content
        if case["status"] != 200:
            return case["status"], case["headers"], case["body"].encode()
        kind, content = body_of(case, case["body"], streams=streams)
        return 200, {"content-type": kind}, content

    wire.answer = answer


@pytest.fixture(scope="module")
def wire() -> Iterator[WireServer]:
    with wire_server() as server:
        yield server


@pytest.fixture(scope="module")
def settings(wire: WireServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return wire_settings(f"{wire.address}/v1{QUERY}", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[FlaskClient]:
    with wire_client(settings) as client:
        yield client


@pytest.fixture
def command(settings: Settings, wire: WireServer) -> Invoke:
    wire.requests.clear()
    env = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": str(settings.base_url),
        "QA_DATA_DIR": str(settings.data_dir),
        "QA_RETRIES": "0",
        "QA_TIMEOUT": "10",
    }
    return Invoke(env)


@pytest.fixture
def model() -> str:
    """A model of the test's own: what an endpoint refuses is remembered for each model."""
    return f"m-{uuid4()}"


cases = pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
forms = pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])


def flags_of(case: dict[str, Any]) -> list[str]:
    return [flag for flag in case["when"].get("flags", []) if flag != "--no-stream"]


def options_of(case: dict[str, Any]) -> dict[str, float]:
    names = flags_of(case)[::2]
    values = map(float, flags_of(case)[1::2])
    pairs = zip((name[2:].replace("-", "_") for name in names), values, strict=True)
    return {name: int(value) if value.is_integer() else value for name, value in pairs}


def check_record(
    case: dict[str, Any], client: FlaskClient, wire: WireServer, **changes: Any
) -> None:
    expect = {"status": "failed" if case["expect"]["exit"] else "answered", **case["expect"]}
    expect |= changes
    [record] = client.get("/qas?order=desc&limit=1").get_json()
    expected = {name: expect[name] for name in RECORD_FIELDS if name in expect}
    assert {name: record[name] for name in expected} == expected
    if "error_has" in case["expect"] and expected["status"] == "failed":
        assert case["expect"]["error_has"] in record["error"]
    assert len(wire.requests) <= case["expect"].get("requests", 2)
    if case["name"] == "api-version-in-base-url":
        assert wire.requests[0].path == f"/v1/chat/completions{QUERY}"


def answer_changes(case: dict[str, Any], *, streams: bool) -> dict[str, Any]:
    """A whole answer that is cut off has no text."""
    return {} if streams or case["name"] != "cut-without-done" else {"answer": None}


@cases
@forms
def test_wire_case_of_ask(
    wire: WireServer, client: FlaskClient, command: Invoke, model: str, case: Any, *, streams: bool
) -> None:
    play(wire, case)
    form = [] if streams else ["--no-stream"]
    done = command("ask", "-m", model, *flags_of(case), *form, "Who?")
    expect = case["expect"]
    assert done.code == expect["exit"], done.err
    if done.code == 0:
        assert done.out == f"{expect['answer']}\n"
    for name in ("error_has", "todo_has", "stderr_has"):
        assert expect.get(name, "") in done.err
    check_record(case, client, wire, **answer_changes(case, streams=streams))


@cases
def test_wire_case_of_batch(
    wire: WireServer, client: FlaskClient, command: Invoke, model: str, case: Any
) -> None:
    play(wire, case)
    Path("questions.txt").write_text(f"Who is {uuid4()}?\n")
    done = command("batch", "questions.txt", "-m", model, "--retries", "0", *flags_of(case))
    assert (done.code == 0) == (case["expect"]["exit"] == 0), done.err
    changes: dict[str, Any] = {}
    if case["name"] == "insufficient-credits-402":  # the batch stops, to go on with more credit
        changes["status"] = "interrupted"
        assert case["expect"]["todo_has"] in done.err
    streams = json.loads(wire.requests[0].body)["stream"]
    check_record(case, client, wire, **changes, **answer_changes(case, streams=streams))


@cases
@forms
def test_wire_case_of_post_ask(
    wire: WireServer, client: FlaskClient, command: Invoke, model: str, case: Any, *, streams: bool
) -> None:
    assert command is not None
    play(wire, case)
    body = {"question": "Who?", "model": model, "stream": streams, **options_of(case)}
    response = client.post("/ask", json=body)
    expect = case["expect"]
    if expect["exit"] == 0:
        assert response.status_code == 200
        assert cast("str", expect["answer"])[:3] in response.text
    else:
        assert response.status_code >= 400 or "event: error" in response.text
        assert expect.get("error_has", "") in response.text
    is_stream = json.loads(wire.requests[0].body)["stream"]
    check_record(case, client, wire, **answer_changes(case, streams=is_stream))


@cases
@forms
def test_wire_case_of_v1_is_passed_on(
    wire: WireServer, client: FlaskClient, command: Invoke, model: str, case: Any, *, streams: bool
) -> None:
    assert command is not None
    play(wire, case)
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Who?"}]}
    body |= {"stream": streams, **options_of(case)}
    if case["name"] == "stream-options-refused":
        body["stream_options"] = {"include_usage": True}
    response = client.post("/v1/chat/completions", json=body)
    sent = wire.answer(wire.requests[-1])
    assert sent is not None
    assert (response.status_code, response.data) == (sent[0], sent[2])
    changes = answer_changes(case, streams=streams)
    if sent[0] != 200:
        changes |= {"status": "failed", "answer": None}
    elif case["name"] == "tool-calls-to-a-plain-question":
        changes |= {"status": "answered", "answer": "f()"}
    check_record(case, client, wire, **changes)
