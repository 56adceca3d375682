"""`/v1` passes requests and responses on unchanged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

URL = "/v1/chat/completions"
WHO = {"role": "user", "content": "Who am I?"}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def call(name: str, arguments: str, key: str = "call_1") -> dict[str, Any]:
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}


def data_in(text: str) -> list[Any]:
    """Return the JSON of each event of a stream."""
    events = [event for event in text.split("\n\n") if event and not event.startswith(":")]
    datas = [event.removeprefix("data: ") for event in events]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


@pytest.mark.parametrize("stream", [False, True])
def test_request_any_fields_reach_the_provider_byte_for_byte(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    body = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
            {"role": "assistant", "content": None, "tool_calls": [call("weather", '{"a":1}')]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {"role": "user", "content": "So? 世界", "name": None},
        ],
        "model": "m-1",
        "stream": stream,
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "max_tokens": -1,
        "temperature": 9.0,
        "stop": None,
        "x_unknown": {"deep": [1.50, {"a": None}]},
    }
    data = json.dumps(body, indent=3, ensure_ascii=False).encode()
    response = client.post(URL, data=data, content_type="application/json")
    assert response.status_code == 200, response.text
    [request] = provider.requests
    assert request.content == data
    record = store.newest()
    assert (record.question, record.system) == ("So? 世界", "Be brief.")
    assert record.params["tools"] == [WEATHER]
    assert (record.params["max_tokens"], record.params["temperature"]) == (-1, 9)
    assert record.params["messages"] == body["messages"]
    assert not {"stream", "stop"} & record.params.keys()


@pytest.mark.parametrize("name", ["default", None, ""])
def test_request_without_a_model_gets_the_model_of_the_server(
    client: FlaskClient, provider: FakeProvider, store: Store, name: str | None
) -> None:
    body = {"model": name, "messages": [WHO], "stop": None, "x": 1}
    assert client.post(URL, json=body).status_code == 200
    assert provider.requests[-1].body == {**body, "model": "test-model"}
    assert store.newest().params == {"model": "test-model", "x": 1}


def test_request_local_file_as_model_is_refused(
    client: FlaskClient, provider: FakeProvider
) -> None:
    response = client.post(URL, json={"model": "local:/etc/passwd", "messages": [WHO]})
    assert response.status_code == 400
    assert provider.requests == []


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ("status=429 retry_after=7 x-ratelimit-remaining-tokens=0", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("status=400 code=context_length_exceeded", 400, "context_length_exceeded"),
        ("status=404", 404, "model_not_found"),
        ("status=500", 500, None),
        ("status=503", 503, None),
        ("status=418", 418, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_response_error_equals_that_of_the_provider(
    client: FlaskClient,
    store: Store,
    provider: FakeProvider,
    fault: str,
    status: int,
    error: str | None,
    stream: bool,
) -> None:
    question = f"Who? [[{fault}]]"
    body = {"model": "m", "messages": [{"role": "user", "content": question}], "stream": stream}
    response = client.post(URL, json=body)
    assert response.status_code == status
    assert response.content_type == "application/json"
    assert list(response.get_json()) == ["error"]
    assert list(response.get_json()["error"]) == ["message", "type", "param", "code"]
    assert response.get_json()["error"]["code"] == error
    assert response.headers.get("Retry-After") == ("7" if "retry_after" in fault else None)
    if "x-ratelimit" in fault:
        assert response.headers["x-ratelimit-remaining-tokens"] == "0"
    assert response.headers["X-Provider-Request-Id"].startswith("req_")
    assert len(response.headers.getlist("X-Request-Id")) == 1
    record = store.get(int(response.headers["X-QA-Record"]))
    assert (record.status, record.details["error"]["status"]) == ("failed", status)
    # qa does not send it again: the client decides.
    assert provider.asked(question) == 1


@pytest.mark.parametrize(
    ("fault", "status", "code", "retry"),
    [
        ("status=401", 502, "key_rejected", "false"),
        ("leak_key", 502, "key_rejected", "false"),
        ("reset", 502, "provider_unreachable", None),
        ("drop", 502, "provider_unreachable", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_response_error_of_this_server_is_in_openais_format(
    client: FlaskClient,
    store: Store,
    fault: str,
    status: int,
    code: str,
    retry: str | None,
    stream: bool,
) -> None:
    body = {"messages": [{"role": "user", "content": f"Who? [[{fault}]]"}], "stream": stream}
    response = client.post(URL, json=body)
    assert response.status_code == status
    error = response.get_json()["error"]
    assert (error["code"], error["type"]) == (code, "server_error")
    assert "sk-test-0123456789" not in response.text
    assert response.headers.get("X-Should-Retry") == retry
    assert store.get(error["record_id"]).status == "failed"


def test_response_error_has_no_key_of_the_server(client: FlaskClient) -> None:
    question = "Who? [[status=400 message='Wrong: {key}.']]"
    response = client.post(URL, json={"messages": [{"role": "user", "content": question}]})
    assert response.get_json()["error"]["message"] == "Wrong: ***."


@pytest.mark.usefixtures("store")
def test_response_error_keeps_the_words_that_are_like_a_placeholder_key(
    build: Callable[..., Flask], provider: FakeProvider
) -> None:
    provider.api_key = None
    client = build(api_key="ollama").test_client()
    question = "Who? [[status=404 message='Try: ollama pull m.']]"
    response = client.post(URL, json={"messages": [{"role": "user", "content": question}]})
    assert response.get_json()["error"]["message"] == "Try: ollama pull m."
    assert "Try: ollama pull m." in client.post("/ask", json={"question": question}).text


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize("stream", [False, True])
def test_response_empty_answer_is_passed_on_and_recorded(
    client: FlaskClient, store: Store, provider: FakeProvider, reason: str, stream: bool
) -> None:
    question = f"Who? [[text='' finish_reason={reason}]]"
    body = {"messages": [{"role": "user", "content": question}], "stream": stream}
    response = client.post(URL, json=body)
    assert response.status_code == 200
    assert reason in response.text
    record = store.newest()
    assert (record.status, record.answer, record.finish_reason) == ("answered", None, reason)
    assert provider.asked(question) == 1


def test_response_stream_is_passed_on_byte_for_byte(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    options = {"include_usage": True}
    body = {"model": "m", "messages": [WHO], "stream": True, "stream_options": options}
    response = client.post(URL, json=body)
    assert response.content_type == "text/event-stream; charset=utf-8"
    assert response.headers["X-QA-Record"]
    assert response.headers["X-Request-Id"]
    first, *middle, usage, done = data_in(response.text)
    assert done == "[DONE]"
    assert first["service_tier"] == "default"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in middle]
    assert "".join(texts) == "Answer to: Who am I?"
    assert middle[-1]["choices"][0]["finish_reason"] == "stop"
    record = store.newest()
    assert record.answer == "Answer to: Who am I?"
    assert usage["usage"]["total_tokens"] == record.prompt_tokens + record.completion_tokens
    assert record.first_token_ms is not None
    assert provider.requests[-1].body == body


def test_response_stream_without_usage_gets_none(client: FlaskClient, store: Store) -> None:
    response = client.post(URL, json={"messages": [WHO], "stream": True})
    assert all("usage" not in chunk for chunk in data_in(response.text) if chunk != "[DONE]")
    assert store.newest().prompt_tokens is None


@pytest.mark.parametrize("stream", [False, True])
def test_response_tool_call_is_passed_on_and_readable_in_the_record(
    client: FlaskClient, store: Store, stream: bool
) -> None:
    question = """Who? [[tool=weather arguments='{"city": "Paris"}']]"""
    messages: list[Any] = [{"role": "user", "content": question}]
    body = {"messages": messages, "tools": [WEATHER], "stream": stream}
    response = client.post(URL, json=body, buffered=True)
    if not stream:
        [choice] = response.get_json()["choices"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["tool_calls"][0]["function"]["name"] == "weather"
    record = store.newest()
    assert record.answer == 'weather({"city": "Paris"})'
    assert record.finish_reason == "tool_calls"
    [recorded] = record.details["tool_calls"]
    assert recorded["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    # The next request brings the result, which is its question.
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [{**recorded, "type": "function"}]},
        {"role": "tool", "tool_call_id": recorded["id"], "content": "sunny"},
    ]
    body = {"messages": messages, "tools": [WEATHER], "stream": stream}
    assert client.post(URL, json=body, buffered=True).status_code == 200
    assert store.newest().question == 'weather({"city": "Paris"}) -> sunny'


def test_response_stream_cut_off_ends_with_an_error(client: FlaskClient, store: Store) -> None:
    question = {"role": "user", "content": "Who? [[cut=2]]"}
    response = client.post(URL, json={"messages": [question], "stream": True})
    *chunks, last = data_in(response.text)
    texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(texts) == "Answer to:"
    assert last["error"]["code"] == "provider_unreachable"
    record = store.get(last["error"]["record_id"])
    assert (record.status, record.answer) == ("failed", "Answer to:")


@pytest.mark.parametrize(
    ("fault", "kind"), [("end=2", "broken-answer"), ("error=2", "provider-unavailable")]
)
def test_response_stream_without_an_answer_is_recorded_as_failed(
    client: FlaskClient, store: Store, fault: str, kind: str
) -> None:
    question = {"role": "user", "content": f"Who? [[{fault}]]"}
    response = client.post(URL, json={"messages": [question], "stream": True})
    chunks = data_in(response.text)
    assert ("error" in chunks[-1]) == (fault == "error=2")
    record = store.newest()
    assert (record.status, record.error_kind, record.answer) == ("failed", kind, "Answer to:")


def test_response_whole_cut_off_is_an_error(client: FlaskClient, store: Store) -> None:
    question = {"role": "user", "content": "Who? [[cut=2]]"}
    response = client.post(URL, json={"messages": [question]})
    assert response.status_code == 502
    assert response.get_json()["error"]["code"] == "provider_unreachable"
    assert store.newest().status == "failed"


@pytest.mark.parametrize("body", ["html", "broken"])
def test_response_that_is_not_json_is_passed_on(
    client: FlaskClient, store: Store, body: str
) -> None:
    question = {"role": "user", "content": f"Who? [[body={body}]]"}
    response = client.post(URL, json={"messages": [question]})
    assert response.status_code == 200
    assert response.text.startswith("<!DOCTYPE html>" if body == "html" else '{"id"')
    assert store.newest().error_kind == "broken-answer"


def test_response_several_answers_are_in_the_record(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    provider.script(Reply(text="One"))
    client.post(URL, json={"messages": [WHO], "n": 2})
    assert store.newest().answer == "One"
    assert [choice["content"] for choice in store.newest().details["choices"]] == ["One (1)"]


@pytest.mark.parametrize(
    ("messages", "question"),
    [
        ([], "(no text)"),
        ("text", "(no text)"),
        ([None, 1, {"role": 5}], "(no text)"),
        ([{"role": "assistant", "content": "Hi"}], "Hi"),
        ([{"role": "system", "content": "Be."}], "Be."),
        ([{"role": "user", "content": "a\0b\ud800"}], "a\ufffdb\ufffd"),
        ([WHO, {"role": "assistant", "content": "It is"}], "Who am I?"),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "input_audio", "input_audio": {"data": "AA=="}}],
                }
            ],
            '<image name="audio-1.bin" />',
        ),
    ],
)
def test_request_of_any_form_is_recorded_and_the_provider_decides(
    client: FlaskClient, store: Store, provider: FakeProvider, messages: Any, question: str
) -> None:
    data = json.dumps({"model": "m", "messages": messages})
    response = client.post(URL, data=data, content_type="application/json")
    assert response.status_code in {200, 400}
    assert len(provider.requests) == 1
    record = store.newest()
    assert record.question == question
    assert record.status == ("answered" if response.status_code == 200 else "failed")


@pytest.mark.parametrize("data", [b"[]", b'"x"', b"1", b"", b"{", b"\xff"])
def test_request_without_a_json_object_is_refused(
    client: FlaskClient, provider: FakeProvider, store: Store, data: bytes
) -> None:
    response = client.post(URL, data=data, content_type="application/json")
    assert response.status_code == 400
    error = response.get_json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert provider.requests == []
    assert store.page(limit=1) == []


@pytest.mark.usefixtures("store")
def test_request_body_limit_is_a_setting(build: Callable[..., Flask]) -> None:
    large = json.dumps({"messages": [WHO], "x": "x" * 1024 * 1024})
    for limit, status in ((1, 413), (2, 200)):
        client = build(max_body_mib=limit).test_client()
        response = client.post(URL, data=large, content_type="application/json")
        assert response.status_code == status, response.text
    response = build(max_body_mib=1).test_client().post(URL, data=large, content_type="text/json")
    assert response.status_code == 415


@pytest.mark.parametrize("size", [25 * 1024 * 1024])
def test_request_of_25_mib_is_passed_on(
    client: FlaskClient, provider: FakeProvider, size: int
) -> None:
    data = json.dumps({"model": "m", "messages": [WHO], "x": "x" * size})
    response = client.post(URL, data=data, content_type="application/json")
    assert response.status_code == 200
    assert len(provider.requests[-1].content) > size


@pytest.mark.parametrize("stream", [False, True])
def test_idempotency_key_repeats_the_answer_and_asks_once(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    body = {"messages": [WHO], "stream": stream, "stream_options": {"include_usage": True}}
    headers = {"Idempotency-Key": "k-1"}
    first = client.post(URL, json=body, headers=headers, buffered=True)
    again = client.post(URL, json=body, headers=headers, buffered=True)
    assert again.headers["X-QA-Record"] == first.headers["X-QA-Record"] == "1"
    assert len(provider.requests) == len(store.page(limit=9)) == 1
    if stream:
        *chunks, usage, done = data_in(again.text)
        texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
        assert "".join(texts) == "Answer to: Who am I?"
        assert usage["usage"]["total_tokens"] > 0
        assert done == "[DONE]"
    else:
        assert again.get_json()["choices"][0]["message"]["content"] == "Answer to: Who am I?"
        assert again.get_json()["id"] == first.get_json()["id"]
        assert again.get_json()["usage"] == first.get_json()["usage"]
    other = client.post(URL, json={"messages": [{**WHO, "content": "x"}]}, headers=headers)
    assert other.status_code == 400


@pytest.mark.parametrize("data", [b"{}", b"\xf4k"])
def test_idempotency_key_that_is_invalid_is_refused(
    client: FlaskClient, provider: FakeProvider, data: bytes
) -> None:
    response = client.post(
        URL, data=data, content_type="application/json", headers={"Idempotency-Key": "k" * 256}
    )
    assert response.status_code == 400
    assert response.get_json()["error"]["param"] == "Idempotency-Key"
    assert provider.requests == []


def test_idempotency_key_repeats_a_tool_call(client: FlaskClient) -> None:
    question = {"role": "user", "content": "Who? [[tool=weather]]"}
    for _ in range(2):
        response = client.post(URL, json={"messages": [question]}, headers={"Idempotency-Key": "k"})
        [choice] = response.get_json()["choices"]
        assert choice["message"]["content"] is None
        [tool] = choice["message"]["tool_calls"]
        assert (tool["type"], tool["function"]) == (
            "function",
            {"name": "weather", "arguments": "{}"},
        )


def test_path_with_a_slash_at_the_end_is_the_same_route(client: FlaskClient) -> None:
    assert client.post(URL + "/", json={"messages": [WHO]}).status_code == 200
    assert client.get("/v1/models/").status_code == 200


def test_embeddings_request_is_relayed_and_not_recorded(
    client: FlaskClient, provider: FakeProvider, store: Store
) -> None:
    body = {"model": "e-1", "input": ["a", "b"], "dimensions": 2}
    response = client.post("/v1/embeddings", json=body)
    assert [item["index"] for item in response.get_json()["data"]] == [0, 1]
    assert provider.requests[-1].body == body
    assert "X-QA-Record" not in response.headers
    assert store.page(limit=1) == []


@pytest.mark.parametrize("stream", [False, True])
def test_completion_is_passed_on_and_recorded(
    client: FlaskClient, provider: FakeProvider, store: Store, stream: bool
) -> None:
    body = {"model": "m", "prompt": "Once upon", "stream": stream, "suffix": "end"}
    response = client.post("/v1/completions", json=body, buffered=True)
    assert response.status_code == 200, response.text
    assert provider.requests[-1].body == body
    record = store.newest()
    assert (record.question, record.answer) == ("Once upon", "Answer to: Once upon")
    assert record.params == {"model": "m", "suffix": "end"}


def test_passthrough_setting_relays_other_paths(
    store: Store, build: Callable[..., Flask], provider: FakeProvider
) -> None:
    closed, opened = build().test_client(), build(passthrough=True).test_client()
    assert closed.post("/v1/audio/speech", json={"a": 1}).status_code == 404
    assert closed.delete("/v1/models").status_code == 405
    for path in ("/v1/audio/speech", "/v1/responses/input_tokens", "/v1/responses/compact"):
        response = closed.post(path, json={"a": 1})
        assert response.status_code == 404
        error = response.get_json()["error"]
        assert (error["code"], error["type"]) == ("not_found", "invalid_request_error")
        assert error["message"].startswith(f"There is nothing at {path}. With QA_PASSTHROUGH=true")
    assert provider.requests == []
    response = opened.post("/v1/audio/speech?x=1", data=b"\0raw", content_type="audio/wav")
    assert response.get_json()["error"]["message"] == "Invalid URL (POST /v1/audio/speech?x=1)"
    assert response.status_code == 404
    assert provider.requests[-1].content == b"\0raw"
    assert provider.requests[-1].headers["content-type"] == "audio/wav"
    opened.post("/v1/responses/compact", json={"a": 1})
    assert (provider.requests[-1].path, provider.requests[-1].body) == (
        "/v1/responses/compact",
        {"a": 1},
    )
    assert opened.delete("/v1/files/f-1").status_code == 404
    assert (provider.requests[-1].method, provider.requests[-1].path) == ("DELETE", "/v1/files/f-1")
    assert store.page(limit=1) == []


def test_headers_of_the_client_and_of_the_provider_are_passed_on(
    client: FlaskClient, provider: FakeProvider
) -> None:
    provider.script(Reply(headers={"openai-processing-ms": "12", "set-cookie": "a=b"}))
    headers = {
        "OpenAI-Beta": "x=v2",
        "X-Title": "App",
        "Cookie": "a=b",
        "X-Forwarded-For": "1.2.3.4",
    }
    response = client.post(URL, json={"messages": [WHO]}, headers=headers)
    assert response.headers["openai-processing-ms"] == "12"
    assert "Set-Cookie" not in response.headers
    sent = provider.requests[-1].headers
    assert (sent["openai-beta"], sent["x-title"]) == ("x=v2", "App")
    assert not {"cookie", "x-forwarded-for"} & sent.keys()
    assert sent["authorization"].startswith("Bearer sk-test-")


@pytest.mark.usefixtures("store")
def test_headers_are_exposed_to_browsers(build: Callable[..., Flask]) -> None:
    client = build(cors_origins="https://app.example.com").test_client()
    response = client.post(
        URL, json={"messages": [WHO]}, headers={"Origin": "https://app.example.com"}
    )
    exposed = response.headers["Access-Control-Expose-Headers"]
    assert {"X-QA-Record", "X-Request-Id"} <= set(exposed.replace(" ", "").split(","))


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("stall=2", "Answer to:"),
        ("""tool=weather arguments='{"city": 1}' stall=2""", 'weather({"city": 1}'),
    ],
)
def test_stream_pieces_are_in_the_outbox_while_they_arrive(
    build: Callable[..., Flask],
    wait_for: Callable[..., Any],
    fault: str,
    expected: str,
) -> None:
    app = build(on_disconnect="interrupt")
    question = {"role": "user", "content": f"Who? [[{fault}]]"}
    response = app.test_client().post(URL, json={"messages": [question], "stream": True})
    outbox = app.extensions["qa"].outbox

    def arrived() -> str:
        return "".join(text for entry in outbox.pending() for text in entry.texts)

    # The state that a killed process would leave now.
    wait_for(lambda: arrived() == expected)
    pieces: Iterator[bytes] = response.iter_encoded()
    next(pieces)
    response.close()


def test_stream_closed_early_completes_or_stops_by_the_setting(
    store: Store, build: Callable[..., Flask], wait_for: Callable[..., Any]
) -> None:
    body = {
        "messages": [{"role": "user", "content": "Who? [[delay=0.05]]"}],
        "stream": True,
    }
    for rule, status in (("complete", "answered"), ("interrupt", "interrupted")):
        response = build(on_disconnect=rule).test_client().post(URL, json=body)
        pieces: Iterator[bytes] = response.iter_encoded()
        assert b"assistant" in next(pieces)
        next(pieces)
        response.close()
        record_id = int(response.headers["X-QA-Record"])
        wait_for(lambda number=record_id: store.get(number).status != "asking")
        record = store.get(record_id)
        assert record.status == status
        assert (record.answer or "").startswith("Answer")
