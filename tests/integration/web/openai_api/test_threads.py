"""The threads of clients of `/v1`, which send the whole conversation each time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from qacli.db.models import RECORDS
from qacli.services.record_request import rebuild_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Invoke
    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store

URL = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MANY = [
    {
        "question": "Hi",
        "answer": "Yes",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "status": "answered",
        "params": {},
        "tags": [],
        "details": {},
        "attachments": [],
        "uid": f"{number:032x}",
        "context_digest": f"digest{number}",
    }
    for number in range(5000)
]
"""The number of records of other conversations."""

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
    # The stored messages are those that were sent.
    assert [item for part in kept for item in part] == messages[2:8]
    request = rebuild_request(store, records[-1])
    assert len(request["messages"]) == len(messages)
    assert request["messages"][:8] == messages[:8]
    assert request["messages"][8] == {"role": "assistant", "content": messages[8]["content"]}
    assert request["messages"][9] == messages[9]
    assert (request["model"], request["tools"]) == ("test-model", [TOOL])


@pytest.mark.parametrize("url", [URL, "/v1/responses"])
def test_thread_of_forty_turns_stores_only_new_messages(
    client: FlaskClient, store: Store, url: str
) -> None:
    words = Random(1)
    # A history in use has the first pages of all tables, indexes and free space maps already.
    converse(client, url, words, 4)
    empty, empty_index = history_bytes(store)
    body = converse(client, url, words, 40)
    records = store.page(limit=99)[4:]
    assert [record.follows_id for record in records] == [None, *range(5, 44)]
    assert all(record.params["tools"] == body["tools"] for record in records)
    distinct = len(json.dumps(body))
    assert sum(map(own_length, records)) < 1.3 * distinct
    size, index = history_bytes(store)
    print(f"{distinct} bytes: {size - empty} stored, {index - empty_index} in the search index")  # noqa: T201 - a figure, shown by -s
    assert size - empty < 1.3 * distinct


def own_length(record: QuestionAnswer) -> int:
    """Return the length of a record without the values that it shares with others."""
    params = {name: value for name, value in record.params.items() if name != "tools"}
    return len(json.dumps({**record.to_dict(), "system": None, "params": params}))


def converse(client: FlaskClient, url: str, words: Random, turns: int) -> dict[str, Any]:
    """Ask questions of 8 KB, with 20 tools of 1 KB and a system prompt; return the last body.

    The texts are random, so that a database cannot compress them much.
    """

    def text(length: int) -> str:
        return " ".join(words.randbytes(4).hex() for _ in range(length))

    functions = [
        {"name": f"tool_{number}", "description": text(100), "parameters": {"type": "object"}}
        for number in range(20)
    ]
    if url == URL:
        messages: list[Any] = [{"role": "system", "content": text(300)}]
        tools = [{"type": "function", "function": function} for function in functions]
        body = {"model": "m", "messages": messages, "tools": tools}
    else:
        messages = []
        tools = [{"type": "function", **function} for function in functions]
        body = {"model": "m", "input": messages, "tools": tools, "instructions": text(300)}
    for turn in range(turns):
        messages.append(user(f"{turn} {text(900)} [[text=Yes]]"))
        response = client.post(url, json=body)
        assert response.status_code == 200, response.text
        answer = response.get_json()
        messages += [answer["choices"][0]["message"]] if url == URL else answer["output"]
    return body


def history_bytes(store: Store) -> tuple[int, int]:
    """Return the bytes of the records in the database, and those of the search index."""
    query = (
        "SELECT sum(CASE WHEN name LIKE 'question_answer_search%' THEN 0 ELSE pgsize END), "
        "sum(CASE WHEN name LIKE 'question_answer_search%' THEN pgsize ELSE 0 END) FROM dbstat"
        if store.sqlite
        else "SELECT pg_total_relation_size('question_answer') + "
        "pg_total_relation_size('shared_value') - "
        "pg_relation_size('ix_question_answer_search'), "
        "pg_relation_size('ix_question_answer_search')"
    )
    with store.reading() as connection:
        # Without parameters: with them a driver would interpret the percent signs.
        records, index = connection.execute(sa.text(query)).one()
    return int(records), int(index)


def test_thread_lookup_uses_the_index(store: Store) -> None:
    query = (
        "SELECT id FROM question_answer WHERE context_digest IN ('a', 'b') "
        "AND caller IS NULL AND status = 'answered' ORDER BY id DESC LIMIT 100"
    )
    with store.transaction(write=True) as connection:
        connection.execute(sa.insert(RECORDS), MANY)
        if not store.sqlite:
            connection.exec_driver_sql("ANALYZE question_answer")
        explain = "EXPLAIN QUERY PLAN " if store.sqlite else "EXPLAIN "
        plan = connection.exec_driver_sql(explain + query).all()
    assert "ix_question_answer_context_digest" in str(plan)
    assert [number for number, *_ in store.find_contexts(["digest7"], None)] == [8]


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
    # A branch of the first record.
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


@on_sqlite
def test_thread_with_tools_is_folded_in_show_and_on_the_page(
    client: FlaskClient, store: Store, invoke: Invoke
) -> None:
    result = "sunny and very warm, " * 40
    messages: list[Any] = [user("Weather? [[tools=1]]")]
    message = chat(client, messages, tools=[TOOL])
    [call] = message["tool_calls"]
    messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": result}]
    chat(client, messages, tools=[TOOL])
    folded = invoke("show", "last", "--thread").out
    assert f"\n{call['function']['name']}(" in folded
    assert result.strip() not in folded
    assert result.strip() in invoke("show", "last", "--thread", "--full").out
    assert result.strip() in invoke("show", "last").out
    page = client.get("/page/2", headers={"Accept": "text/html"}).text
    assert f"<summary>{call['function']['name']}(" in page
    assert ">Results of tools</h2>" in page
    assert result.strip() in page
    record = store.newest()
    assert record.question.endswith(result.strip())
