"""The thread of a conversation that a client sends whole each time, at `/v1`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from qacli.services.request import rebuild_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

URL = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def chat(client: FlaskClient, messages: list[Any], **fields: Any) -> dict[str, Any]:
    response = client.post(URL, json={"messages": messages, **fields})
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.get_json()["choices"][0]["message"]
    return message


def use_tools(client: FlaskClient, messages: list[Any], rounds: int) -> None:
    """Ask with tools, and send the results, until there is an answer."""
    for _ in range(rounds):
        message = chat(client, messages, tools=[TOOL])
        [call] = message["tool_calls"]
        messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]
    messages.append(chat(client, messages, tools=[TOOL]))


def test_thread_with_tools_has_each_message_once(client: FlaskClient, store: Store) -> None:
    messages: list[Any] = [{"role": "system", "content": "Now 1."}, user("Weather? [[tools=3]]")]
    use_tools(client, messages, 3)
    messages[0] = {"role": "system", "content": "Now 2."}
    messages.append(user("And then?"))
    chat(client, messages, tools=[TOOL])
    records = store.page(limit=9)
    assert [record.follows_id for record in records] == [None, 1, 2, 3, 4]
    assert [record.system for record in records] == [*["Now 1."] * 4, "Now 2."]
    kept = [record.params.get("messages", []) for record in records]
    assert [len(messages) for messages in kept] == [0, 2, 2, 2, 0]
    assert [message["role"] for message in kept[1]] == ["assistant", "tool"]
    # All of it is what was sent.
    assert [item for part in kept for item in part] == messages[2:8]
    request = rebuild_request(store, records[-1])
    assert len(request["messages"]) == len(messages)
    assert request["messages"][:8] == messages[:8]
    assert request["messages"][8] == {"role": "assistant", "content": messages[8]["content"]}
    assert request["messages"][9] == messages[9]
    assert (request["model"], request["tools"]) == ("test-model", [TOOL])


@on_sqlite
def test_thread_of_forty_turns_grows_with_what_is_new(client: FlaskClient, store: Store) -> None:
    messages: list[Any] = []
    for turn in range(40):
        messages.append(user(f"{turn} " + "word " * 1600 + "[[text=Yes]]"))
        messages.append(chat(client, messages))
    records = store.page(limit=99)
    assert [record.follows_id for record in records] == [None, *range(1, 40)]
    distinct = len(json.dumps(messages))
    stored = sum(len(json.dumps(record.to_dict())) for record in records)
    assert stored < 1.3 * distinct


@on_sqlite
def test_thread_survives_white_space_and_empty_fields(client: FlaskClient, store: Store) -> None:
    messages: list[Any] = [user("  One? ")]
    answer = chat(client, messages)
    sent = [
        {"role": "user", "content": [{"type": "text", "text": "One?"}], "name": None},
        {"role": "assistant", "content": f"\n{answer['content']} ", "tool_calls": []},
        user("Two?"),
    ]
    chat(client, sent)
    assert store.newest().follows_id == 1
    assert "messages" not in store.newest().params


@on_sqlite
def test_thread_of_two_conversations_with_one_beginning_stays_two(
    client: FlaskClient, store: Store
) -> None:
    first, second = [user("Hi [[text=A]]")], [user("Hi [[text=A]]")]
    for messages in (first, second):
        messages.append(chat(client, messages))
    chat(client, [*first, user("More?")])
    assert [record.follows_id for record in store.page(limit=9)] == [None, None, 2]
    # A branch of the first one.
    chat(client, [*first, user("Else?")])
    assert store.newest().follows_id == 2


@on_sqlite
def test_thread_follows_the_answer_that_the_conversation_has(
    client: FlaskClient, store: Store, provider: Any
) -> None:
    provider.script("text=One", "text=Two")
    answers = [chat(client, [user("Hi")]) for _ in range(2)]
    for answer, record_id in zip(answers, (1, 2), strict=True):
        chat(client, [user("Hi"), answer, user("More?")])
        assert store.newest().follows_id == record_id
    chat(client, [user("Hi"), {"role": "assistant", "content": "Neither"}, user("More?")])
    assert store.newest().follows_id is None
    assert len(store.newest().params["messages"]) == 3


@on_sqlite
def test_thread_with_a_changed_answer_keeps_the_change(client: FlaskClient, store: Store) -> None:
    chat(client, [user("Hi")])
    changed = {"role": "assistant", "content": "Shorter."}
    chat(client, [user("Hi"), changed, user("More?")])
    assert store.newest().follows_id == 1
    assert store.newest().params["messages"] == [changed, user("More?")]
    request = rebuild_request(store, store.newest())
    assert request == {"model": "test-model", "messages": [user("Hi"), changed, user("More?")]}


def test_thread_of_another_caller_is_not_continued(
    store: Store, build: Callable[..., Flask]
) -> None:
    alice, bob = "alice-token-0123456789", "bob-token-0123456789"
    client = build(tokens=f"admin:alice={alice},bob={bob}").test_client()
    messages: list[Any] = [user("Weather? [[tools]]")]
    headers = {"Authorization": f"Bearer {bob}"}
    body = {"messages": messages, "tools": [TOOL]}
    message = client.post(URL, json=body, headers=headers).get_json()["choices"][0]["message"]
    key = message["tool_calls"][0]["id"]
    messages += [message, {"role": "tool", "tool_call_id": key, "content": "sunny"}]
    for token, follows in ((alice, None), (bob, 1)):
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post(URL, json=body, headers=headers).status_code == 200
        assert store.newest().follows_id == follows


@on_sqlite
def test_thread_of_responses_is_found(client: FlaskClient, store: Store) -> None:
    items: list[Any] = [user("Weather? [[tools=2]]")]
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
    for _ in range(3):
        body = {"model": "m", "input": items, "tools": tools}
        output = client.post("/v1/responses", json=body).get_json()["output"]
        calls = [item for item in output if item["type"] == "function_call"]
        items += output + [
            {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
            for call in calls
        ]
    client.post("/v1/responses", json={"model": "m", "input": [*items, user("So?")]})
    records = store.page(limit=9)
    assert [record.follows_id for record in records] == [None, 1, 2, 3]
    assert [len(record.params.get("messages", [])) for record in records] == [0, 2, 2, 0]
