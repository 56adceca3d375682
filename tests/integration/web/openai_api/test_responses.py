"""`POST /v1/responses` is passed on and recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask.testing import FlaskClient

    from qacli.db.records import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

URL = "/v1/responses"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("stream", [False, True])
def test_response_is_passed_on_and_recorded(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    body = {
        "model": "m-1",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Who am I?"}]}],
        "stream": stream,
        "store": False,
        "metadata": {"a": "b"},
        "max_output_tokens": 99,
    }
    data = json.dumps(body, indent=1).encode()
    response = client.post(URL, data=data, content_type="application/json", buffered=True)
    assert response.status_code == 200, response.text
    assert provider.requests[-1].content == data
    record = store.get(int(response.headers["X-QA-Record"]))
    assert (record.question, record.system) == ("Who am I?", "Be brief.")
    assert (record.answer, record.status) == ("Answer to: Who am I?", "answered")
    assert record.provider_response_id is not None
    assert record.provider_response_id in response.text
    assert record.prompt_tokens == 8
    expected = {"model": "m-1", "store": False, "metadata": {"a": "b"}, "max_output_tokens": 99}
    assert record.params == expected
    if stream:
        events = [event.partition("\n")[0] for event in response.text.strip().split("\n\n")]
        assert events[0] == "event: response.created"
        assert events[-1] == "event: response.completed"


@pytest.mark.parametrize("stream", [False, True])
def test_response_tool_call_and_result_are_readable_in_the_record(
    client: FlaskClient, store: Store, stream: bool
) -> None:
    question = """Who? [[tool=weather arguments='{"city": "Paris"}']]"""
    body: dict[str, Any] = {"model": "m", "input": question, "tools": [TOOL], "stream": stream}
    client.post(URL, json=body, buffered=True)
    assert store.newest().answer == 'weather({"city": "Paris"})'
    [call] = store.newest().details["tool_calls"]
    items = [
        {"role": "user", "content": question},
        {
            "type": "function_call",
            "call_id": call["id"],
            "name": "weather",
            "arguments": '{"city": "Paris"}',
        },
        {"type": "function_call_output", "call_id": call["id"], "output": "sunny"},
    ]
    client.post(URL, json={**body, "input": items}, buffered=True)
    assert store.newest().question == 'weather({"city": "Paris"}) -> sunny'


def test_response_error_equals_that_of_the_provider(client: FlaskClient, store: Store) -> None:
    response = client.post(URL, json={"model": "m", "input": "Who?", "messages": []})
    assert response.status_code == 400
    assert response.get_json()["error"]["param"] == "messages"
    assert store.newest().status == "failed"


def test_response_stream_cut_off_ends_with_an_error_event(
    client: FlaskClient, store: Store
) -> None:
    body = {"model": "m", "input": "Who? [[cut=2]]", "stream": True}
    response = client.post(URL, json=body, buffered=True)
    name, data = response.text.strip().split("\n\n")[-1].split("\n")
    assert name == "event: error"
    error = json.loads(data.removeprefix("data: "))
    assert (error["type"], error["code"]) == ("error", "provider_unreachable")
    assert store.newest().answer == "Answer to:"


def test_response_empty_input_is_recorded_and_the_provider_decides(
    client: FlaskClient, store: Store
) -> None:
    assert client.post(URL, json={"model": "m"}).status_code == 400
    assert store.newest().question == "(no text)"


@pytest.mark.parametrize("stream", [False, True])
def test_idempotency_key_repeats_the_response(
    client: FlaskClient, provider: FakeProvider, stream: bool
) -> None:
    body = {"model": "m", "input": "Who?", "stream": stream}
    headers = {"Idempotency-Key": "k"}
    first, again = (client.post(URL, json=body, headers=headers, buffered=True) for _ in range(2))
    assert len(provider.requests) == 1
    assert again.headers["X-QA-Record"] == first.headers["X-QA-Record"]
    assert again.content_type.partition(";")[0] == first.content_type.partition(";")[0]
    if stream:
        last = json.loads(again.text.strip().split("\n\n")[-1].partition("data: ")[2])
        assert last["type"] == "response.completed"
        response = last["response"]
    else:
        response = again.get_json()
    assert response["output"][0]["content"][0]["text"] == "Answer to: Who?"
    assert response["id"] in first.text
