"""`previous_response_id`, references to items, and `GET` and `DELETE /v1/responses/{id}`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from fake_provider import FakeProvider, Reply, responses
from flask_fixtures import TOKEN
from openai.types.responses import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

URL = "/v1/responses"
NOT_CHAT = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def chat_only(provider: FakeProvider) -> FakeProvider:
    provider.without = (URL,)
    return provider


def respond(client: FlaskClient, **body: Any) -> Response:
    response = client.post(URL, json={"model": "m", **body})
    assert response.status_code == 200, response.text
    return Response.model_validate(response.get_json())


def error_in(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.get_json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return error


def test_previous_response_of_a_chat_provider_is_the_conversation(
    client: FlaskClient, chat_only: FakeProvider, store: Store
) -> None:
    first = respond(client, input="One?", instructions="Be brief.")
    second = respond(client, input="Two?", previous_response_id=first.id)
    third = respond(
        client, input=[{"role": "user", "content": "Three?"}], previous_response_id=second.id
    )
    assert third.previous_response_id == second.id
    assert [message["content"] for message in chat_only.requests[-1].body["messages"]] == [
        *("Be brief.", "One?", "Answer to: One?", "Two?", "Answer to: Two?", "Three?")
    ]
    assert "previous_response_id" not in chat_only.requests[-1].body
    assert [record.follows_id for record in store.page(limit=9)] == [None, 1, 2]
    # New instructions replace the earlier ones.
    respond(client, input="x", instructions="Be kind.", previous_response_id=first.id)
    roles = [message["role"] for message in chat_only.requests[-1].body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert chat_only.requests[-1].body["messages"][0]["content"] == "Be kind."


@on_sqlite
@pytest.mark.parametrize("stream", [False, True])
def test_previous_response_with_a_tool_call_takes_its_result_alone(
    client: FlaskClient, chat_only: FakeProvider, store: Store, stream: bool
) -> None:
    chat_only.default = Reply(tools=3, reasoning="Hm.")
    body: dict[str, Any] = {"model": "m", "input": "Who?", "tools": [TOOL], "stream": stream}
    for number in range(3):
        text = client.post(URL, json=body, buffered=True).text
        if stream:
            text = json.dumps(json.loads(text.strip().rpartition("data: ")[2])["response"])
        response = Response.model_validate_json(text)
        call = response.output[-1]
        assert call.type == "function_call"
        output = {"type": "function_call_output", "call_id": call.call_id, "output": f"{number}"}
        body |= {"input": [output], "previous_response_id": response.id}
        assert store.newest().uid in response.id
    client.post(URL, json=body, buffered=True)
    messages = chat_only.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", *["assistant", "tool"] * 3]
    assert all(message["reasoning_content"] == "Hm." for message in messages[1::2])
    for answer, result in zip(messages[1::2], messages[2::2], strict=True):
        assert answer["tool_calls"][0]["id"] == result["tool_call_id"]
    assert store.newest().question == "weather() -> 2"
    assert [record.follows_id for record in store.page(limit=9)] == [None, 1, 2, 3]


@on_sqlite
@pytest.mark.parametrize(
    ("status", "message", "param"),
    [
        (404, "Response with id '{id}' not found.", None),
        (400, "Previous response with id '{id}' not found.", "previous_response_id"),
        (400, "This server does not support 'previous_response_id'.", None),
    ],
)
def test_previous_response_that_the_provider_does_not_keep_is_sent_as_input(
    client: FlaskClient,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    message: str,
    param: str | None,
) -> None:
    known = responses.PARAMETERS | {"previous_response_id"}
    monkeypatch.setattr(responses, "PARAMETERS", known)
    first = respond(client, input="One?")
    text = message.replace("{id}", first.id)
    provider.script(Reply(status=status, message=text, param=param, code="not_found"))
    second = respond(client, input="Two?", previous_response_id=first.id)
    assert second.output_text == "Answer to: Two?"
    paths = [request.path for request in provider.requests]
    assert paths == [URL] * 3
    contents = [item["content"] for item in provider.requests[-1].body["input"]]
    assert (contents[0], contents[2]) == ("One?", "Two?")
    # The refused parameter is remembered for the endpoint and the model, not the whole API.
    respond(client, input="Three?", previous_response_id=second.id)
    assert "previous_response_id" not in provider.requests[-1].body
    assert [request.path for request in provider.requests] == [URL] * 4
    respond(client, input="Four?", model="n", previous_response_id=second.id)
    assert provider.requests[-1].body["previous_response_id"] == second.id


def test_previous_response_not_stored_is_not_remembered_as_refused(
    client: FlaskClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = responses.PARAMETERS | {"previous_response_id"}
    monkeypatch.setattr(responses, "PARAMETERS", known)
    first = respond(client, input="One?", store=False)
    text = f"Previous response with id '{first.id}' not found."
    provider.script(Reply(status=400, message=text, code="previous_response_not_found"))
    second = respond(client, input="Two?", previous_response_id=first.id)
    respond(client, input="Three?", previous_response_id=second.id)
    assert provider.requests[-1].body["previous_response_id"] == second.id


@on_sqlite
def test_previous_response_unknown_everywhere_is_the_error_of_the_provider(
    client: FlaskClient, chat_only: FakeProvider
) -> None:
    body = {"model": "m", "input": "x", "previous_response_id": "resp_none"}
    error = error_in(client.post(URL, json=body), 400)
    assert (error["param"], error["code"]) == (
        "previous_response_id",
        "previous_response_not_found",
    )
    chat_only.without = ()
    error = error_in(client.post(URL, json={**body, "model": "n"}), 400)
    assert "previous_response_id" in error["message"]
    assert chat_only.requests[-1].path == URL


@on_sqlite
def test_item_references_are_replaced_by_the_items(
    client: FlaskClient, chat_only: FakeProvider, store: Store
) -> None:
    chat_only.default = Reply(tools=1, reasoning="Hm.")
    first = respond(client, input="Who?", tools=[TOOL])
    call = first.output[-1]
    assert call.type == "function_call"
    items: list[Any] = [
        {"role": "user", "content": "Who?"},
        *({"type": "item_reference", "id": item.id} for item in first.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    second = respond(client, input=items, tools=[TOOL])
    messages = chat_only.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["id"] == call.call_id
    items += [
        {"id": second.output[-1].id},
        {"role": "user", "content": "And?"},
    ]
    respond(client, input=items, tools=[TOOL])
    assert chat_only.requests[-1].body["messages"][3]["content"] == "Answer to: Who?"
    assert [record.follows_id for record in store.page(limit=9)] == [None, 1, 2]
    unknown = [{"type": "item_reference", "id": f"msg_{'0' * 32}_0"}]
    response = client.post(URL, json={"model": "m", "input": unknown})
    assert error_in(response, 400)["param"] == "input[0].type"


@pytest.mark.parametrize("native", [False, True])
def test_stored_response_equals_the_first(
    client: FlaskClient, provider: FakeProvider, store: Store, native: bool
) -> None:
    provider.without = () if native else (URL,)
    provider.default = Reply(reasoning="Hm.")
    first = respond(client, input="One?", metadata={"a": "b"}, temperature=0.5)
    response = client.get(f"{URL}/{first.id}")
    assert response.headers["X-QA-Record"] == str(store.newest().id)
    stored = Response.model_validate(response.get_json())
    if not native:
        assert response.get_json() == first.model_dump(mode="json", exclude_unset=True)
    assert (stored.id, stored.output_text) == (first.id, first.output_text)
    assert (stored.usage, stored.status) == (first.usage, "completed")
    second = respond(client, input="Two?", previous_response_id=first.id)
    data = client.get(f"{URL}/{second.id}/input_items?order=asc").get_json()
    assert [item["content"][0]["text"] for item in data["data"]] == [
        *("One?", "Answer to: One?", "Two?")
    ]
    data = client.get(f"{URL}/{second.id}/input_items?limit=1").get_json()
    assert (data["data"][0]["content"][0]["text"], data["has_more"]) == ("Two?", True)
    deleted = client.delete(f"{URL}/{first.id}")
    assert deleted.get_json() == {"id": first.id, "object": "response", "deleted": True}
    assert [record.question for record in store.page(limit=9)] == ["Two?"]
    assert error_in(client.get(f"{URL}/{first.id}"), 404)["type"] == "invalid_request_error"
    error_in(client.delete(f"{URL}/{first.id}"), 404)
    error_in(client.get(f"{URL}/{first.id}/input_items"), 404)


@pytest.mark.usefixtures("chat_only")
@on_sqlite
def test_stored_response_of_a_failed_request_is_failed(client: FlaskClient, store: Store) -> None:
    client.post(URL, json={"model": "m", "input": "Who? [[cut=2]]", "stream": True}, buffered=True)
    stored = Response.model_validate(client.get(f"{URL}/resp_{store.newest().uid}").get_json())
    assert (stored.status, stored.output_text) == ("failed", "Answer to:")


@pytest.mark.usefixtures("store")
@on_sqlite
def test_stored_response_of_another_caller_is_not_found_and_not_passed_on(
    build: Callable[..., Flask], provider: FakeProvider
) -> None:
    tokens = f"alice={'a' * 20},bob={'b' * 20},admin:root={'c' * 20}"
    client = build(tokens=tokens).test_client()
    alice, bob, root = ({"Authorization": f"Bearer {letter * 20}"} for letter in "abc")
    body = {"model": "m", "input": "One?"}
    first = client.post(URL, json=body, headers=alice).get_json()
    number = len(provider.requests)
    continued = {**body, "previous_response_id": first["id"]}
    # An administrator reads all records at /qa, but only its own ones at /v1.
    for headers in (bob, root):
        error_in(client.get(f"{URL}/{first['id']}", headers=headers), 404)
        error_in(client.delete(f"{URL}/{first['id']}", headers=headers), 404)
        error_in(client.get(f"{URL}/{first['id']}/input_items", headers=headers), 404)
        foreign = error_in(client.post(URL, json=continued, headers=headers), 400)
        assert foreign["code"] == "previous_response_not_found"
    assert len(provider.requests) == number
    provider.without = (URL,)
    unknown = {**body, "previous_response_id": "resp_none"}
    error = error_in(client.post(URL, json=unknown, headers=bob), 400)
    assert {**error, "message": error["message"].replace("resp_none", first["id"])} == foreign
    assert client.get(f"{URL}/{first['id']}", headers=alice).status_code == 200


@on_sqlite
def test_stored_response_that_is_not_in_the_history_is_passed_on(
    client: FlaskClient, provider: FakeProvider
) -> None:
    error_in(client.get(f"{URL}/resp_none"), 404)
    provider.other_reply = Reply(status=400, message="Bad id.", code="bad_id")
    error = error_in(client.get(f"{URL}/resp_9?include=x"), 400)
    assert error["code"] == "bad_id"
    assert provider.requests[-1].path == f"{URL}/resp_9?include=x"
    error_in(client.delete(f"{URL}/resp_9"), 400)
    assert provider.requests[-1].method == "DELETE"


@on_sqlite
@pytest.mark.parametrize("stream", [False, True])
def test_idempotency_key_repeats_a_translated_answer_with_its_ids(
    client: FlaskClient, provider: FakeProvider, stream: bool
) -> None:
    requests: dict[str, dict[str, Any]] = {
        URL: {"model": "m", "input": "Who?", "tools": [TOOL]},
        "/v1/chat/completions": {"model": "n", "messages": [{"role": "user", "content": "Who?"}]},
    }
    for path, body in requests.items():
        provider.without = (path,)
        provider.default = Reply(reasoning="Hm.", tools=1)
        provider.other_reply = Reply(status=404, message=NOT_CHAT) if "chat" in path else Reply()
        headers = {"Idempotency-Key": path}
        first, again = (
            client.post(path, json={**body, "stream": stream}, headers=headers, buffered=True)
            for _ in range(2)
        )
        assert first.headers["X-QA-Record"] == again.headers["X-QA-Record"]
        if stream:
            ends = [
                json.loads(response.text.removesuffix("data: [DONE]\n\n").rpartition("data: ")[2])
                for response in (first, again)
            ]
            assert ends[0].get("response", ends[0]) == ends[1].get("response", ends[1])
        else:
            assert first.get_json() == again.get_json()


@on_sqlite
@pytest.mark.parametrize("stream", [False, True])
def test_idempotency_key_repeats_a_text_completion(client: FlaskClient, stream: bool) -> None:
    body = {"model": "m", "prompt": "Once", "stream": stream}
    headers = {"Idempotency-Key": "k"}
    first, again = (
        client.post("/v1/completions", json=body, headers=headers, buffered=True) for _ in range(2)
    )
    if stream:
        event, end = again.text.strip().split("\n\n")
        assert end == "data: [DONE]"
        completion = json.loads(event.removeprefix("data: "))
    else:
        completion = again.get_json()
    assert completion["object"] == "text_completion"
    assert completion["choices"][0]["text"] == "Answer to: Once"
    assert completion["id"] in first.text


@pytest.mark.usefixtures("chat_only")
@on_sqlite
def test_openai_client_continues_and_reads_and_deletes_a_response(served: str) -> None:
    with openai.OpenAI(base_url=served, api_key=TOKEN, max_retries=0, timeout=10) as client:
        first = client.responses.create(model="m", input="One?")
        second = client.responses.create(model="m", input="Two?", previous_response_id=first.id)
        assert client.responses.retrieve(second.id).output == second.output
        events = list(client.responses.retrieve(second.id, stream=True))
        assert events[-1].type == "response.completed"
        items = list(client.responses.input_items.list(second.id, limit=1, order="asc"))
        assert [item.content[0].text for item in items] == [  # type: ignore[union-attr]
            *("One?", "Answer to: One?", "Two?")
        ]
        client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(second.id)


@on_sqlite
def test_response_of_a_provider_is_found_by_an_index(store: Store) -> None:
    query = (
        "EXPLAIN QUERY PLAN SELECT * FROM question_answer WHERE caller IS NULL "
        "AND provider_response_id = ? AND context_digest IS NOT NULL ORDER BY id DESC LIMIT 1"
    )
    with store.reading() as connection:
        plan = str(connection.exec_driver_sql(query, ("resp_1",)).all())
    assert "ix_question_answer_provider_response_id" in plan
