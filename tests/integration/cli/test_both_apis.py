"""The commands work the same by Chat Completions and by the Responses API."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

from qacli.provider.refused_features import FILE_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke, Records

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(params=["chat", "responses"])
def api(request: pytest.FixtureRequest, invoke: Invoke) -> str:
    invoke.env["QA_API"] = request.param
    return str(request.param)


def messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a request of either API, the system prompt first."""
    if "messages" in body:
        return list(body["messages"])
    instructions = body.get("instructions")
    system = [{"role": "system", "content": instructions}] if instructions else []
    items = [{name: item[name] for name in ("role", "content")} for item in body["input"]]
    return [*system, *items]


@pytest.mark.parametrize("flags", [[], ["--no-stream"]], ids=["stream", "whole"])
def test_ask_by_either_api_makes_the_same_record(
    invoke: Invoke, provider: FakeProvider, records: Records, api: str, flags: list[str]
) -> None:
    options = ["--system", "Be brief.", "--max-tokens", "9", "--temperature", "0.5", *flags]
    done = invoke("ask", *options, "Who am I?")
    assert (done.code, done.out) == (0, "Answer to: Who am I?\n")
    (request,) = provider.requests
    assert request.path == PATHS[api]
    assert request.body["stream"] is not bool(flags)
    assert messages_of(request.body) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who am I?"},
    ]
    (record,) = records()
    fields = ("status", "model", "finish_reason", "prompt_tokens", "completion_tokens", "details")
    assert [record[name] for name in fields[:5]] == [
        *("answered", "test-model-2026-01-01", "stop"),
        *(5, 5),
    ]
    assert record["details"]["service_tier"] == "default"
    assert record["params"] == {"model": "test-model", "temperature": 0.5, "max_tokens": 9}


def test_follow_up_with_a_file_by_either_api(
    invoke: Invoke, provider: FakeProvider, home: Path, api: str
) -> None:
    (home / "a.png").write_bytes(PNG)
    assert invoke("ask", "One?").code == 0
    assert invoke("ask", "-c", "-f", "a.png", "Two?").code == 0
    first, answer, second = messages_of(provider.requests[1].body)
    assert (first["content"], answer["content"]) == ("One?", "Answer to: One?")
    image = second["content"][1]["image_url"]
    url = image if api == "responses" else image["url"]
    assert url == f"data:image/png;base64,{b64encode(PNG).decode()}"
    assert second["content"][2]["text"] == "Two?"


def test_schema_by_either_api_is_corrected_once(
    invoke: Invoke, provider: FakeProvider, records: Records, api: str
) -> None:
    provider.script(Reply(text='{"age": 1}'), Reply(text='{"age": "one"}'))
    done = invoke("ask", "--schema", "age", "How old?")
    assert (done.code, json.loads(done.out)) == (0, {"age": "one"})
    first, second = (request.body for request in provider.requests)
    form = (
        first["text"]["format"] if api == "responses" else first["response_format"]["json_schema"]
    )
    assert (form["name"], form["strict"]) == ("answer", True)
    assert [message["role"] for message in messages_of(second)] == ["user", "assistant", "user"]
    assert [record["status"] for record in records()] == ["failed", "answered"]


@pytest.mark.parametrize(
    ("fault", "code", "answer"),
    [
        ("cut=2", 6, "Answer to:"),
        ("error=2", 6, "Answer to:"),
        ("end=2", 6, "Answer to:"),
        ("status=500", 6, None),
        ("status=400", 5, None),
        ("bad_key", 3, None),
        ("empty finish_reason=length", 6, None),
        ("tool=f", 6, None),
    ],
)
@pytest.mark.usefixtures("api")
def test_fault_by_either_api_is_the_same_error(
    invoke: Invoke, records: Records, fault: str, code: int, answer: str | None
) -> None:
    assert invoke("ask", f"[[{fault}]]").code == code
    (record,) = records()
    assert (record["status"], record["answer"]) == ("failed", answer)


@pytest.mark.parametrize(
    ("fault", "finish_reason", "answer"),
    [
        ("text='a b' finish_reason=length", "length", "a b"),
        ("text='a b' finish_reason=content_filter", "content_filter", "a b"),
        ("refusal='I will not.'", "stop", "I will not."),
    ],
)
@pytest.mark.usefixtures("api")
def test_answer_cut_by_either_api_is_stored(
    invoke: Invoke, records: Records, fault: str, finish_reason: str, answer: str
) -> None:
    assert invoke("ask", f"[[{fault}]]").code == 0
    (record,) = records()
    assert (record["answer"], record["finish_reason"]) == (answer, finish_reason)


def test_batch_by_either_api_answers_all_items(
    invoke: Invoke, provider: FakeProvider, home: Path, api: str
) -> None:
    body = {"model": "m-9", "messages": [{"role": "user", "content": "Line?"}], "max_tokens": 5}
    lines = [
        {"question": "One?"},
        {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body},
    ]
    (home / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = invoke("batch", "in.jsonl", "--format", "jsonl")
    assert done.code == 0, done.err
    answers = [json.loads(line)["answer"] for line in done.out.splitlines()]
    assert answers == ["Answer to: One?", "Answer to: Line?"]
    assert {request.path for request in provider.requests} == {PATHS[api]}


def test_chat_by_either_api_continues(invoke: Invoke, provider: FakeProvider, api: str) -> None:
    done = invoke("chat", input="One?\nTwo?\n")
    assert (done.code, done.out) == (0, "Answer to: One?\nAnswer to: Two?\n")
    assert provider.requests[1].path == PATHS[api]
    assert len(messages_of(provider.requests[1].body)) == 3


def test_tool_by_responses_is_recorded_with_its_citations(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    tools = ["--tool", "web_search", "--tool", '{"type": "code_interpreter"}']
    assert invoke("ask", *tools, "Who won?").code == 0
    assert invoke("ask", *tools[:2], "--reuse", "Who won?").code == 0
    # Without a tool, or with another one, it is another question.
    for other in ([], tools):
        assert invoke("ask", *other, "--reuse", "Who won?").code == 0
    sent = [
        {"type": "web_search"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
    ]
    paths = [request.path.removeprefix("/v1/") for request in provider.requests]
    assert paths == ["responses", "responses", "chat/completions"]
    assert provider.requests[0].body["tools"] == sent
    record = records()[0]
    assert record["params"] == {"model": "test-model", "tools": sent}
    urls = [item["url_citation"]["url"] for item in record["details"]["annotations"]]
    assert urls == ["https://example.com/1", "https://example.com/2"]
    assert record["details"]["web_search_call"][0]["status"] == "completed"


def test_tool_of_a_batch_and_of_a_chat_is_sent(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "in.txt").write_text("One?\n")
    assert invoke("batch", "in.txt", "--tool", "web_search").code == 0
    assert invoke("chat", "--tool", "web_search", input="Two?\n").code == 0
    assert [request.path for request in provider.requests] == [PATHS["responses"]] * 2
    assert all(r.body["tools"] == [{"type": "web_search"}] for r in provider.requests)


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("", "has no valid type"),
        ("web search", "has no valid type"),
        ('{"name": "f"}', "has no valid type"),
        ('{"type": 1}', "has no valid type"),
        ("{web_search}", "is not JSON"),
        ("function", "the client must run it"),
        ('{"type": "function", "name": "f"}', "the client must run it"),
    ],
)
def test_tool_unusable_is_an_error_and_nothing_is_sent(
    invoke: Invoke, provider: FakeProvider, tool: str, message: str
) -> None:
    done = invoke("ask", "--tool", tool, "Who?")
    assert done.code == 2
    assert message in done.err
    assert not provider.requests


def test_api_unknown_name_is_an_invalid_setting(invoke: Invoke, provider: FakeProvider) -> None:
    done = invoke("ask", "Who?", QA_API="completions")
    assert done.code == 3
    assert "QA_API" in done.err
    assert "auto, chat or responses" in done.err
    assert not provider.requests


def test_api_of_a_profile_is_used(invoke: Invoke, provider: FakeProvider, home: Path) -> None:
    (home / "config.toml").write_text('[profiles.work]\napi = "responses"\n')
    assert invoke("ask", "Who?", QA_PROFILE="work").code == 0
    assert provider.requests[0].path == PATHS["responses"]


def test_model_that_needs_responses_is_remembered_by_later_commands(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    provider.script(
        "status=404 param=model message="
        "'This model is only supported in v1/responses and not in v1/chat/completions.'"
    )
    first, second = (invoke("ask", "-v", "Who?") for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert "needs the Responses API" in first.err
    assert "needs the Responses API" not in second.err
    assert [request.path for request in provider.requests] == [
        *(PATHS["chat"], PATHS["responses"], PATHS["responses"]),
    ]
    assert (home / "data" / FILE_NAME).exists()
