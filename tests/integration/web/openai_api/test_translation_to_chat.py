"""Clients of Responses at a provider that has Chat Completions only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from fake_provider import FakeProvider, Reply
from flask_fixtures import TOKEN
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

    from qacli.db.records import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

URL = "/v1/responses"
CHAT_PATH = "/v1/chat/completions"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(autouse=True)
def chat_only(provider: FakeProvider) -> None:
    provider.without = (URL,)


@pytest.fixture
def openai_client(served: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served, api_key=TOKEN, max_retries=0, timeout=10) as client:
        yield client


def events_in(text: str) -> list[Any]:
    """Return the events of a stream, checked with the types of the openai package."""
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = EVENT.validate_json(data.removeprefix("data: "))
        assert name == f"event: {event.type}"
        events.append(event)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events


def respond(client: FlaskClient, body: dict[str, Any]) -> Response:
    """Return the response to a request; from a stream, the one of its last event."""
    response = client.post(URL, json={"model": "m", **body}, buffered=True)
    assert response.status_code == 200, response.text
    if not body.get("stream"):
        assert response.content_type == "application/json"
        return Response.model_validate(response.get_json(), strict=False)
    assert response.content_type == "text/event-stream; charset=utf-8"
    last = events_in(response.text)[-1]
    assert isinstance(last.response, Response)
    return last.response


@pytest.mark.parametrize("stream", [False, True])
def test_responses_text_is_translated_and_recorded(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    body = {
        "instructions": "Be brief.",
        "input": "Who am I?",
        "stream": stream,
        "max_output_tokens": 99,
        "metadata": {"a": "b"},
        "client_metadata": {"a": "b"},
        "x_unknown": 1,
    }
    response = respond(client, body)
    assert response.output_text == "Answer to: Who am I?"
    assert (response.status, response.model) == ("completed", "m-2026-01-01")
    assert (response.instructions, response.metadata) == ("Be brief.", {"a": "b"})
    assert response.usage is not None
    assert response.usage.input_tokens > 0
    first, second = provider.requests
    assert (first.path, second.path) == (URL, CHAT_PATH)
    assert second.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who am I?"},
    ]
    assert (second.body["max_tokens"], second.body["x_unknown"]) == (99, 1)
    assert not {"metadata", "client_metadata"} & second.body.keys()
    record = store.newest()
    assert (record.question, record.answer) == ("Who am I?", "Answer to: Who am I?")
    assert record.details["translated_to"] == "chat_completions"
    assert response.id == f"resp_{record.uid}"
    assert record.prompt_tokens == response.usage.input_tokens
    # The refusal of the provider is remembered.
    respond(client, body)
    assert [request.path for request in provider.requests[2:]] == [CHAT_PATH]


@pytest.mark.parametrize("stream", [False, True])
def test_responses_input_items_become_messages(
    client: FlaskClient, provider: FakeProvider, stream: bool
) -> None:
    pixel = "data:image/png;base64,aGVsbG8="
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "One?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "1", "annotations": []}],
        },
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Two?"},
                {"type": "input_image", "image_url": pixel, "detail": "low"},
            ],
        },
    ]
    respond(client, {"input": items, "stream": stream})
    assert provider.requests[-1].body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Two?"},
                {"type": "image_url", "image_url": {"url": pixel, "detail": "low"}},
            ],
        },
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_responses_tools_over_three_rounds_are_translated(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    provider.default = Reply(tools=3, reasoning="I need the weather.")
    items: list[Any] = [{"role": "user", "content": "Who?"}]
    for number in range(3):
        body = {"input": items, "tools": [TOOL], "tool_choice": "auto", "stream": stream}
        response = respond(client, body)
        reasoning, call = response.output
        assert (reasoning.type, call.type) == ("reasoning", "function_call")
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "x"})
        items += [item.model_dump(exclude_none=True) for item in response.output]
        output = {"type": "function_call_output", "call_id": call.call_id, "output": f"{number}"}
        items.append(output)
    response = respond(client, {"input": items, "tools": [TOOL], "stream": stream})
    assert response.output_text == "Answer to: Who?"
    sent = provider.requests[-1].body
    function = {name: value for name, value in TOOL.items() if name != "type"}
    assert sent["tools"] == [{"type": "function", "function": function}]
    roles = [message["role"] for message in sent["messages"]]
    assert roles == ["user", *["assistant", "tool"] * 3]
    for place in (1, 3, 5):
        answer, result = sent["messages"][place : place + 2]
        assert answer["reasoning_content"] == "I need the weather."
        assert answer["tool_calls"][0]["id"] == result["tool_call_id"]
    assert [record.follows_id for record in store.page(limit=9)] == [None, 1, 2, 3]


@pytest.mark.parametrize("stream", [False, True])
def test_responses_schema_reasoning_and_citation_are_translated(
    client: FlaskClient, provider: FakeProvider, stream: bool
) -> None:
    provider.default = Reply(schema=True, reasoning="Let me think.", citation="https://a.example/")
    form = {"type": "json_schema", "name": "p", "schema": Person.model_json_schema()}
    text = {"format": {**form, "strict": True}, "verbosity": "low"}
    body = {"input": "Who?", "text": text, "reasoning": {"effort": "low", "summary": "auto"}}
    response = respond(client, {**body, "stream": stream})
    reasoning, message = response.output
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text == "Let me think."
    assert message.type == "message"
    assert Person.model_validate_json(response.output_text) == Person(name="x", age=1)
    [annotation] = message.content[0].annotations  # type: ignore[union-attr]
    assert annotation.type == "url_citation"
    assert annotation.url == "https://a.example/"
    sent = provider.requests[-1].body
    assert (sent["reasoning_effort"], sent["verbosity"]) == ("low", "low")
    wrapper = {"name": "p", "strict": True, "schema": Person.model_json_schema()}
    assert sent["response_format"] == {"type": "json_schema", "json_schema": wrapper}


@pytest.mark.parametrize("stream", [False, True])
def test_responses_refusal_and_limit_are_translated(
    client: FlaskClient, provider: FakeProvider, stream: bool
) -> None:
    provider.script(Reply(refusal="I will not."), Reply(finish_reason="length"))
    response = respond(client, {"input": "Who?", "stream": stream})
    assert response.output[0].content[0].refusal == "I will not."  # type: ignore[union-attr]
    response = respond(client, {"input": "Who?", "stream": stream})
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status=429 retry_after=7", 429, "rate_limit_exceeded"),
        ("status=400 code=context_length_exceeded", 400, "context_length_exceeded"),
        ("status=500", 500, None),
        ("status=401", 502, "key_rejected"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_responses_error_of_the_chat_provider_is_passed_on(
    client: FlaskClient, store: Store, fault: str, status: int, code: str | None, stream: bool
) -> None:
    response = client.post(URL, json={"model": "m", "input": f"Who? [[{fault}]]", "stream": stream})
    assert response.status_code == status
    assert response.get_json()["error"]["code"] == code
    assert response.headers.get("Retry-After") == ("7" if "retry" in fault else None)
    assert store.newest().status == "failed"


@pytest.mark.parametrize(
    ("fault", "stream"),
    [("cut=2", False), ("cut=2", True), ("error=2", False), ("error=2", True), ("end=2", True)],
)
def test_responses_broken_chat_answer_ends_with_an_error(
    client: FlaskClient, store: Store, fault: str, stream: bool
) -> None:
    body = {"model": "m", "input": f"Who? [[{fault}]]", "stream": stream}
    response = client.post(URL, json=body, buffered=True)
    if stream:
        *events, last = events_in(response.text)
        assert last.type == "error"
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(deltas) == "Answer to:"
    else:
        assert response.status_code in {502, 503}
    assert store.newest().status == "failed"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"truncation": "auto"}, "truncation"),
        ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_responses_untranslatable_part_is_an_error_with_its_place(
    client: FlaskClient,
    provider: FakeProvider,
    store: Store,
    body: dict[str, Any],
    param: str,
    stream: bool,
) -> None:
    response = client.post(URL, json={"model": "m", "input": "Who?", "stream": stream, **body})
    assert response.status_code == 400
    error = response.get_json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert error["code"] in {
        "unsupported_parameter",
        "unsupported_value",
        "previous_response_not_found",
    }
    assert [request.path for request in provider.requests] == [URL]
    assert (store.newest().status, store.newest().error_kind) == ("failed", "invalid-request")


def test_openai_client_stream_helper_reads_translated_events(openai_client: openai.OpenAI) -> None:
    with openai_client.responses.stream(model="m", input="Who?") as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text == "Answer to: Who?"


def test_openai_client_parse_helper_reads_a_translated_answer(
    openai_client: openai.OpenAI, provider: FakeProvider
) -> None:
    provider.default = Reply(schema=True)
    response = openai_client.responses.parse(model="m", input="Who?", text_format=Person)
    assert response.output_parsed == Person(name="x", age=1)
    with openai_client.responses.stream(model="m", input="Who?", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="x", age=1)


def test_openai_client_reads_the_error_event_of_a_broken_answer(
    openai_client: openai.OpenAI,
) -> None:
    *_, last = openai_client.responses.create(model="m", input="Who? [[cut=2]]", stream=True)
    assert last.type == "error"
    assert (last.code, last.sequence_number) == ("provider_unreachable", 6)
