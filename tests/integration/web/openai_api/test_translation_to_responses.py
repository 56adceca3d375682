"""Clients of Chat Completions at a provider that has the Responses API only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from fake_provider import FakeProvider, Reply
from flask_fixtures import TOKEN
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

    from qacli.db.records import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

URL = "/v1/chat/completions"
RESPONSES_PATH = "/v1/responses"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(autouse=True)
def responses_only(provider: FakeProvider) -> None:
    provider.without = (URL,)
    provider.other_reply = Reply(
        status=404,
        message="This is not a chat model and thus not supported in the v1/chat/completions "
        "endpoint. Did you mean to use v1/responses?",
        param="model",
    )


@pytest.fixture
def openai_client(served: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served, api_key=TOKEN, max_retries=0, timeout=10) as client:
        yield client


def complete(client: FlaskClient, body: dict[str, Any]) -> ChatCompletion:
    """Return the completion; a stream is joined, and its chunks are checked."""
    if body.get("stream"):
        body = {**body, "stream_options": {"include_usage": True}}
    response = client.post(URL, json={"model": "m", **body}, buffered=True)
    assert response.status_code == 200, response.text
    if not body.get("stream"):
        return ChatCompletion.model_validate(response.get_json())
    *blocks, end = response.text.strip().split("\n\n")
    assert end == "data: [DONE]"
    chunks = [
        ChatCompletionChunk.model_validate_json(block.removeprefix("data: ")) for block in blocks
    ]
    return joined(chunks)


def joined(chunks: list[ChatCompletionChunk]) -> ChatCompletion:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    calls: dict[int, dict[str, Any]] = {}
    finish = None
    *chunks, usage = chunks
    assert (usage.choices, len({chunk.id for chunk in chunks})) == ([], 1)
    for chunk in chunks:
        [choice] = chunk.choices
        delta = choice.delta.model_dump(exclude_none=True)
        for name in ("content", "refusal", "reasoning_content"):
            if delta.get(name):
                message[name] = (message.get(name) or "") + delta[name]
        for piece in delta.get("tool_calls", ()):
            call = calls.setdefault(piece["index"], {**piece, "function": {"arguments": ""}})
            arguments = call["function"]["arguments"] + piece["function"].pop("arguments", "")
            call["function"] |= {**piece["function"], "arguments": arguments}
        finish = choice.finish_reason or finish
    if calls:
        message["tool_calls"] = list(calls.values())
    frame = chunks[0].model_dump(include={"id", "created", "model"})
    choice_fields = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return ChatCompletion.model_validate(
        {**frame, "object": "chat.completion", "choices": [choice_fields], "usage": usage.usage}
    )


@pytest.mark.parametrize("stream", [False, True])
def test_chat_text_is_translated_and_recorded(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "Who am I?"}]},
    ]
    body = {"messages": messages, "max_tokens": 9, "n": 1, "stream": stream}
    completion = complete(client, body)
    [choice] = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("Answer to: Who am I?", "stop")
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 0
    first, second = provider.requests
    assert (first.path, second.path) == (URL, RESPONSES_PATH)
    assert second.body["max_output_tokens"] == 9
    assert [item["role"] for item in second.body["input"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    record = store.newest()
    assert record.details["translated_to"] == "responses"
    assert (record.answer, completion.id) == ("Answer to: Who am I?", f"chatcmpl-{record.uid}")
    complete(client, body)
    assert [request.path for request in provider.requests[2:]] == [RESPONSES_PATH]


@pytest.mark.parametrize("stream", [False, True])
def test_chat_tools_over_three_rounds_are_translated(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    provider.default = Reply(tools=3, reasoning="Hm.")
    messages: list[Any] = [{"role": "user", "content": "Who?"}]
    for number in range(3):
        body = {"messages": messages, "tools": [TOOL], "stream": stream}
        [choice] = complete(client, body).choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        [call] = choice.message.tool_calls
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "weather",
            {"city": "x"},
        )
        messages.append(choice.message.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{number}"})
    [choice] = complete(client, {"messages": messages, "tools": [TOOL], "stream": stream}).choices
    assert choice.message.content == "Answer to: Who?"
    sent = provider.requests[-1].body
    kinds = [item["type"] for item in sent["input"]]
    assert kinds == ["message", *["function_call", "function_call_output"] * 3]
    assert sent["tools"][0]["strict"] is False
    assert [record.follows_id for record in store.page(limit=9)] == [None, 1, 2, 3]


@pytest.mark.parametrize("stream", [False, True])
def test_chat_schema_and_reasoning_are_translated(
    client: FlaskClient, provider: FakeProvider, stream: bool
) -> None:
    provider.default = Reply(schema=True, reasoning="Let me think.")
    wrapper = {"name": "p", "strict": True, "schema": Person.model_json_schema()}
    body = {
        "messages": [{"role": "user", "content": "Who?"}],
        "response_format": {"type": "json_schema", "json_schema": wrapper},
        "reasoning_effort": "low",
        "stream": stream,
    }
    [choice] = complete(client, body).choices
    assert Person.model_validate_json(choice.message.content or "") == Person(name="x", age=1)
    assert choice.message.reasoning_content == "Let me think."  # type: ignore[attr-defined]
    sent = provider.requests[-1].body
    assert sent["text"]["format"] == {"type": "json_schema", **wrapper}
    assert sent["reasoning"]["effort"] == "low"


@pytest.mark.parametrize("stream", [False, True])
def test_chat_refusal_and_limit_are_translated(
    client: FlaskClient, provider: FakeProvider, stream: bool
) -> None:
    provider.script(Reply(refusal="I will not."), Reply(finish_reason="length"))
    body = {"messages": [{"role": "user", "content": "Who?"}], "stream": stream}
    assert complete(client, body).choices[0].message.refusal == "I will not."
    assert complete(client, body).choices[0].finish_reason == "length"


@pytest.mark.parametrize("fault", ["cut=2", "error=2", "failed=server_error"])
@pytest.mark.parametrize("stream", [False, True])
def test_chat_broken_response_ends_with_an_error(
    client: FlaskClient, store: Store, fault: str, stream: bool
) -> None:
    messages = [{"role": "user", "content": f"Who? [[{fault}]]"}]
    response = client.post(
        URL, json={"model": "m", "messages": messages, "stream": stream}, buffered=True
    )
    if stream:
        last = json.loads(response.text.strip().split("\n\n")[-1].removeprefix("data: "))
        assert last["error"]["message"]
    else:
        assert response.status_code in {502, 503}
    assert store.newest().status == "failed"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"stop": ["x"]}, "stop"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0]"),
    ],
)
def test_chat_untranslatable_part_is_an_error_with_its_place(
    client: FlaskClient, store: Store, body: dict[str, Any], param: str
) -> None:
    messages = [{"role": "user", "content": "Who?"}]
    response = client.post(URL, json={"model": "m", "messages": messages, **body})
    assert response.status_code == 400
    assert response.get_json()["error"]["param"].startswith(param)
    assert store.newest().status == "failed"


def test_openai_client_reads_translated_completions(
    openai_client: openai.OpenAI, provider: FakeProvider
) -> None:
    messages: Any = [{"role": "user", "content": "Who?"}]
    with openai_client.chat.completions.stream(model="m", messages=messages) as stream:
        content = stream.get_final_completion().choices[0].message.content
    assert content == "Answer to: Who?"
    provider.default = Reply(schema=True)
    parsed = openai_client.chat.completions.parse(
        model="m", messages=messages, response_format=Person
    )
    assert parsed.choices[0].message.parsed == Person(name="x", age=1)


def test_openai_client_error_of_the_other_api_is_its_exception(
    openai_client: openai.OpenAI,
) -> None:
    messages: Any = [{"role": "user", "content": "Who? [[status=429]]"}]
    with pytest.raises(openai.RateLimitError):
        openai_client.chat.completions.create(model="m", messages=messages)
