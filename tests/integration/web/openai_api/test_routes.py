"""The OpenAI-compatible API, request by request."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PIXEL = "data:image/png;base64,aGVsbG8="


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def chat(client: FlaskClient, *messages: dict[str, Any], **more: Any) -> Any:
    return client.post("/v1/chat/completions", json={"messages": messages, **more})


def error_in(response: Any, status: int) -> dict[str, Any]:
    """Check that a response has the form of OpenAI's errors, and return the error."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    error: dict[str, Any] = response.get_json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["message"]
    return error


def chunks_in(response: Any) -> list[Any]:
    assert response.content_type.startswith("text/event-stream")
    events = [each for each in response.text.split("\n\n") if each and not each.startswith(":")]
    assert all(each.startswith("data: ") for each in events)
    datas = [each.removeprefix("data: ") for each in events]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


@on_sqlite
@pytest.mark.parametrize("path", ["/v1//chat/completions", "/v1/chat//completions//"])
def test_chat_completions_base_url_that_ends_in_a_slash_is_served(
    client: FlaskClient, path: str
) -> None:
    response = client.post(path, json={"messages": [user("Who?")]})
    assert response.status_code == 200
    assert response.get_json()["object"] == "chat.completion"


def test_chat_completions_exchange_is_a_record(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    messages = [{"role": "system", "content": "Be brief."}, user("Grüße, 世界 🌍")]
    response = chat(client, *messages, model="m-9", temperature=0.5, seed=7, top_k=3)
    completion = response.get_json()
    assert completion["object"] == "chat.completion"
    [choice] = completion["choices"]
    assert choice["message"]["content"] == "Answer to: Grüße, 世界 🌍"
    assert choice["finish_reason"] == "stop"
    record = store.newest().to_dict()
    assert response.headers["X-QA-Record"] == str(record["id"])
    assert response.headers["X-Request-Id"] == record["request_id"]
    assert completion["id"] == record["provider_response_id"]
    assert completion["model"] == record["model"] == "m-9-2026-01-01"
    assert completion["usage"] == {
        "prompt_tokens": record["prompt_tokens"],
        "completion_tokens": record["completion_tokens"],
        "total_tokens": record["prompt_tokens"] + record["completion_tokens"],
    }
    assert (record["question"], record["system"]) == ("Grüße, 世界 🌍", "Be brief.")
    assert record["answer"] == "Answer to: Grüße, 世界 🌍"
    assert record["params"] == {"model": "m-9", "temperature": 0.5, "seed": 7, "top_k": 3}
    [request] = provider.requests
    assert request.body["messages"] == messages
    assert (request.body["seed"], request.body["top_k"]) == (7, 3)


@on_sqlite
def test_chat_completions_without_system_prompt_get_the_servers(
    store: Store, build: Callable[..., Flask], provider: FakeProvider
) -> None:
    client = build(system="Be kind.").test_client()
    chat(client, user("Who?"))
    chat(client, {"role": "developer", "content": "Be brief."}, user("Who?"))
    first, second = provider.requests
    assert first.body["messages"] == [{"role": "system", "content": "Be kind."}, user("Who?")]
    assert second.body["messages"][0] == {"role": "developer", "content": "Be brief."}
    assert [each.system for each in store.page(limit=1000)] == ["Be kind.", "Be brief."]


def test_chat_completions_conversation_is_a_thread(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    said: list[dict[str, Any]] = []
    for question in ("One?", "Two?", "Three?"):
        said.append(user(question))
        message = chat(client, *said).get_json()["choices"][0]["message"]
        said.append(message)  # as it was received: with its nulls
    records = store.page(limit=1000)
    assert [record.follows_id for record in records] == [None, records[0].id, records[1].id]
    assert all(record.params == {"model": "test-model"} for record in records)
    assert [each["content"] for each in provider.requests[-1].body["messages"]] == [
        *("One?", "Answer to: One?", "Two?", "Answer to: Two?", "Three?")
    ]
    # A conversation without its first messages is still the same thread.
    chat(client, *said[2:], user("Four?"))
    assert store.newest().follows_id == records[-1].id


def test_chat_completions_unknown_conversation_is_stored_whole(
    client: FlaskClient, store: Store
) -> None:
    said = [user("Hi."), assistant("Hello."), user("Who?")]
    answer = chat(client, *said).get_json()["choices"][0]["message"]["content"]
    first = store.newest()
    assert (first.question, first.follows_id) == ("Who?", None)
    assert first.params["messages"] == said
    # Now the thread is known.
    chat(client, *said, assistant(answer), user("And?"))
    assert store.newest().follows_id == first.id
    assert "messages" not in store.newest().params
    # A conversation with only the same end is another thread.
    other = [user("Ho."), assistant("Hullo."), user("Who?"), assistant(answer), user("So?")]
    chat(client, *other)
    assert store.newest().follows_id is None
    assert store.newest().params["messages"] == other


@on_sqlite
@pytest.mark.parametrize(
    "messages",
    [
        [user("One?"), user("Two?")],
        [assistant("Hello."), user("Two?")],
        [user("One?"), assistant("1"), user("Two?"), assistant("It is")],
        [user("One?"), assistant("1"), user("Two?"), user("  ")],
    ],
)
def test_chat_completions_messages_in_any_order_are_unchanged(
    client: FlaskClient, store: Store, provider: FakeProvider, messages: list[dict[str, Any]]
) -> None:
    assert chat(client, *messages).status_code == 200
    assert provider.requests[-1].body["messages"] == messages
    assert store.newest().question == "Two?"
    assert store.newest().params["messages"] == messages


@on_sqlite
def test_chat_completions_images_are_sent_and_recorded(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    seen = user(
        [
            {"type": "text", "text": "Compare"},
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://u:p@example.com/a.png?key=s"}},
            {"type": "text", "text": "with that."},
        ]
    )
    chat(client, seen)
    record = store.newest().to_dict()
    assert record["question"] == "Compare\nwith that."
    assert record["attachments"] == [
        {"name": "image-1.png", "size": 5, "sha256": sha256(b"hello").hexdigest()},
        {"name": "https://example.com/a.png", "size": None, "sha256": None},
    ]
    assert provider.requests[-1].body["messages"] == [seen]
    # The next turn sends the image again; neither record holds it.
    answer = record["answer"]
    chat(client, seen, assistant(answer), user("Sure?"))
    chat(client, user("Hm."), assistant("?"), seen, assistant(answer), user("Sure?"))
    assert [each.follows_id for each in store.page(limit=1000)] == [None, record["id"], None]
    assert PIXEL in json.dumps(provider.requests[-1].body)
    assert "aGVsbG8=" not in json.dumps([each.to_dict() for each in store.page(limit=1000)])


@on_sqlite
def test_chat_completions_image_alone_is_a_question(client: FlaskClient, store: Store) -> None:
    chat(client, user([{"type": "image_url", "image_url": {"url": PIXEL}}]))
    assert store.newest().question == '<image name="image-1.png" />'


@on_sqlite
@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"\xff", b"[" * 100_000),
        *(b'{"messages": [], "x": NaN}', b'{"messages": [], "x": 1e999}'),
    ],
)
def test_chat_completions_invalid_json_is_refused(client: FlaskClient, data: bytes) -> None:
    url, kind = "/v1/chat/completions", "application/json"
    error_in(client.post(url, data=data, content_type=kind), 400)


@on_sqlite
def test_openai_routes_refusals_have_the_error_format_of_openai(
    build: Callable[..., Flask],
) -> None:
    client = build(token="t-123").test_client()
    authorized = {"Authorization": "Bearer t-123"}
    for response in (
        client.get("/v1/models"),
        client.post("/v1/chat/completions", json={}, headers={"Authorization": "Bearer no"}),
    ):
        assert error_in(response, 401)["code"] == "invalid_api_key"
        assert response.headers["WWW-Authenticate"]
    assert error_in(client.get("/v1/no", headers=authorized), 404)["code"] == "not_found"
    response = client.delete("/v1/models", headers=authorized)
    assert error_in(response, 405)["code"] == "method_not_allowed"
    assert "GET" in response.headers["Allow"]
    error_in(client.post("/v1/chat/completions", data=b"x", headers=authorized), 415)
    # All other paths answer with problems.
    assert client.get("/no", headers=authorized).content_type == "application/problem+json"


@pytest.mark.usefixtures("store")
@on_sqlite
def test_chat_completions_over_the_rate_limit_send_retry_after(build: Callable[..., Flask]) -> None:
    client = build(rate_limit="1/minute").test_client()
    assert chat(client, user("One?")).status_code == 200
    response = chat(client, user("Two?"))
    error = error_in(response, 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert int(response.headers["Retry-After"]) > 0


@on_sqlite
def test_chat_completions_with_the_database_down_send_nothing(
    build: Callable[..., Flask], provider: FakeProvider
) -> None:
    client = build(database_url="postgresql://u:p@127.0.0.1:1/none").test_client()
    assert error_in(chat(client, user("x")), 503)["type"] == "server_error"
    assert error_in(chat(client, user("x"), assistant("y"), user("z")), 503)["message"]
    assert provider.requests == []


@on_sqlite
def test_models_lists_the_servers_model_then_the_providers(
    client: FlaskClient,
) -> None:
    listed = client.get("/v1/models").get_json()
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == ["test-model", "fake-large", "fake-small"]
    assert client.get("/v1/models/fake-small").get_json() == listed["data"][2]
    assert client.get("/v1/models/test-model").get_json() == listed["data"][0]
    error_in(client.get("/v1/models/vendor/none"), 404)


@on_sqlite
def test_models_of_a_provider_without_a_list_is_the_servers(
    client: FlaskClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "models_reply", Reply(status=404))
    assert [each["id"] for each in client.get("/v1/models").get_json()["data"]] == ["test-model"]
    monkeypatch.setattr(provider, "models_reply", Reply(status=500))
    error_in(client.get("/v1/models"), 503)
    monkeypatch.setattr(provider, "models_reply", Reply(reset=True))
    error_in(client.get("/v1/models"), 502)


@on_sqlite
def test_chat_completions_too_deep_json_is_refused(
    client: FlaskClient, provider: FakeProvider
) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    assert "nested" in error_in(chat(client, user("Who?"), metadata=deep), 400)["message"]
    assert provider.requests == []


@on_sqlite
@pytest.mark.parametrize("stream", [False, True])
def test_chat_completions_have_reasoning_and_citations_apart(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    provider.default = Reply(reasoning="Let me think.", text="Yes.", citation="https://a.example/")
    options = {"stream_options": {"include_usage": True}} if stream else {}
    response = chat(client, user("Who?"), stream=stream, **options)
    if stream:
        *chunks, usage_chunk, end = chunks_in(response)
        assert end == "[DONE]"
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        message = {
            name: "".join(delta.get(name, "") for delta in deltas)
            for name in ("content", "reasoning_content")
        }
        message["annotations"] = next(d["annotations"] for d in deltas if d.get("annotations"))
        usage = usage_chunk["usage"]
    else:
        completion = response.get_json()
        message, usage = completion["choices"][0]["message"], completion["usage"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Let me think.")
    assert message["annotations"][0]["url_citation"]["url"] == "https://a.example/"
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert "prompt_tokens_details" not in usage
    assert store.newest().answer == "Yes."


@on_sqlite
def test_chat_completions_without_reasoning_have_no_field_for_it(client: FlaskClient) -> None:
    completion = chat(client, user("Who?")).get_json()
    assert "reasoning_content" not in completion["choices"][0]["message"]
    assert "completion_tokens_details" not in completion["usage"]
