"""Every case of `tests/support/wire_cases.json`, streamed and whole, in every way of asking.

`/v1` passes a response on unchanged; the record has the outcome of the case.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest
from wire_app import WireApp, wire_app
from wire_server import EVENTS, JSON, Answer, WireRequest, WireServer

if TYPE_CHECKING:
    from collections.abc import Iterator


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
"""The refusals after which a question is sent again without a parameter; not by `/v1`."""

QUERY = "?api-version=2025-04-01"
"""The query in the base URL of all cases; one of them checks it."""


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
    """Return the content type and the body of a case, streamed or whole."""
    is_stream = "data: " in body
    if streams:
        return EVENTS, (body if is_stream else as_stream(json.loads(body))).encode()
    whole = json.dumps(merged(body)) if is_stream else body
    return JSON, (whole[:-30] if case["name"] == "cut-without-done" else whole).encode()


def set_answer(wire: WireServer, case: dict[str, Any]) -> None:
    """Answer each request as the case says."""
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
def module_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireApp]:
    with wire_app(tmp_path_factory.mktemp("data"), QUERY) as app:
        yield app


@pytest.fixture
def app(module_app: WireApp) -> WireApp:
    """The application and its provider, without the requests of other tests."""
    module_app.wire.requests.clear()
    return module_app


@pytest.fixture
def model() -> str:
    """A new name: qa remembers for each model what an endpoint refuses."""
    return f"m-{uuid4()}"


cases = pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
forms = pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])


def flags_of(case: dict[str, Any]) -> list[str]:
    """Return the options of `qa ask` for a case."""
    return [flag for flag in case["when"].get("flags", []) if flag != "--no-stream"]


def options_of(case: dict[str, Any]) -> dict[str, float]:
    """Return the same options as fields of an HTTP body."""
    names = flags_of(case)[::2]
    values = map(float, flags_of(case)[1::2])
    pairs = zip((name[2:].replace("-", "_") for name in names), values, strict=True)
    return {name: int(value) if value.is_integer() else value for name, value in pairs}


def check_record(case: dict[str, Any], app: WireApp, **changes: Any) -> None:
    """Check the newest record and the requests; `changes` are changes of what the case expects."""
    expect = {"status": "failed" if case["expect"]["exit"] else "answered", **case["expect"]}
    expect |= changes
    record = app.last_record()
    expected = {name: expect[name] for name in RECORD_FIELDS if name in expect}
    assert {name: record[name] for name in expected} == expected
    if "error_has" in case["expect"] and expected["status"] == "failed":
        assert case["expect"]["error_has"] in record["error"]
    assert len(app.wire.requests) <= case["expect"].get("requests", 2)
    if case["name"] == "api-version-in-base-url":
        assert app.wire.requests[0].path == f"/v1/chat/completions{QUERY}"


def answer_changes(case: dict[str, Any], *, streams: bool) -> dict[str, Any]:
    """Return the change of the expected answer: a whole answer that is cut off has no text."""
    return {} if streams or case["name"] != "cut-without-done" else {"answer": None}


@cases
@forms
def test_wire_case_of_ask(app: WireApp, model: str, case: Any, *, streams: bool) -> None:
    set_answer(app.wire, case)
    form = [] if streams else ["--no-stream"]
    done = app.command()("ask", "-m", model, *flags_of(case), *form, "Who?")
    expect = case["expect"]
    assert done.code == expect["exit"], done.err
    if done.code == 0:
        assert done.out == f"{expect['answer']}\n"
    for name in ("error_has", "todo_has", "stderr_has"):
        assert expect.get(name, "") in done.err
    check_record(case, app, **answer_changes(case, streams=streams))


@cases
def test_wire_case_of_batch(app: WireApp, model: str, case: Any) -> None:
    set_answer(app.wire, case)
    Path("questions.txt").write_text(f"Who is {uuid4()}?\n")
    done = app.command()("batch", "questions.txt", "-m", model, "--retries", "0", *flags_of(case))
    assert (done.code == 0) == (case["expect"]["exit"] == 0), done.err
    changes: dict[str, Any] = {}
    if case["name"] == "insufficient-credits-402":  # the batch stops, to go on with more credit
        changes["status"] = "interrupted"
        assert case["expect"]["todo_has"] in done.err
    streams = json.loads(app.wire.requests[0].body)["stream"]
    check_record(case, app, **changes, **answer_changes(case, streams=streams))


@cases
@forms
def test_wire_case_of_post_ask(app: WireApp, model: str, case: Any, *, streams: bool) -> None:
    set_answer(app.wire, case)
    body = {"question": "Who?", "model": model, "stream": streams, **options_of(case)}
    response = app.client.post("/ask", json=body)
    expect = case["expect"]
    if expect["exit"] == 0:
        assert response.status_code == 200
        assert cast("str", expect["answer"])[:3] in response.text
    else:
        assert response.status_code >= 400 or "event: error" in response.text
        assert expect.get("error_has", "") in response.text
    is_stream = json.loads(app.wire.requests[0].body)["stream"]
    check_record(case, app, **answer_changes(case, streams=is_stream))


@cases
@forms
def test_wire_case_at_v1_is_passed_on(
    app: WireApp, model: str, case: Any, *, streams: bool
) -> None:
    set_answer(app.wire, case)
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Who?"}]}
    body |= {"stream": streams, **options_of(case)}
    if case["name"] == "stream-options-refused":
        body["stream_options"] = {"include_usage": True}
    response = app.client.post("/v1/chat/completions", json=body)
    sent = app.wire.answer(app.wire.requests[-1])
    assert sent is not None
    assert (response.status_code, response.data) == (sent[0], sent[2])
    changes = answer_changes(case, streams=streams)
    if sent[0] != 200:
        changes |= {"status": "failed", "answer": None}
    elif case["name"] == "tool-calls-to-a-plain-question":
        changes |= {"status": "answered", "answer": "f()"}
    check_record(case, app, **changes)
