"""Several providers behind one server: the choice of one, and the next if one is down."""

from __future__ import annotations

import json
import re
import socket
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY
from fake_provider import FakeProvider
from werkzeug.wrappers import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
NORTH_KEY, SOUTH_KEY = "north-0123456789abcdef", "south-0123456789abcdef"
ROUTES = {"llama-*": "north", "fast": "south/small"}
FALLBACKS = {"north": ("south/big",)}
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


@pytest.fixture(scope="module")
def _upstreams() -> Iterator[tuple[FakeProvider, FakeProvider]]:
    with FakeProvider(api_key=NORTH_KEY) as north, FakeProvider(api_key=SOUTH_KEY) as south:
        yield north, south


@pytest.fixture
def north(_upstreams: tuple[FakeProvider, FakeProvider]) -> FakeProvider:
    """The upstream `north`, without requests so far."""
    _upstreams[0].reset()
    return _upstreams[0]


@pytest.fixture
def south(_upstreams: tuple[FakeProvider, FakeProvider]) -> FakeProvider:
    """The upstream `south`, without requests so far."""
    _upstreams[1].reset()
    return _upstreams[1]


@pytest.fixture
def make_client(
    store: Store,
    build: Callable[..., Flask],
    north: FakeProvider,
    south: FakeProvider,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., FlaskClient]:
    """Return a function that makes a client of a server with its own provider and two upstreams."""
    assert store
    monkeypatch.setenv("NORTH_KEY", NORTH_KEY)
    monkeypatch.setenv("SOUTH_KEY", SOUTH_KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    file = home / "upstreams.toml"
    file.write_text(
        f'[profiles.north]\nbase_url = "{north.base_url}"\nkey_variable = "NORTH_KEY"\n'
        'model = "big"\nextra_body = { north_only = 1 }\nheaders = { X-North = "yes" }\n'
        f'[profiles.south]\nbase_url = "{south.base_url}"\nkey_variable = "SOUTH_KEY"\n'
        "extra_body = { south_only = 2 }\n"
    )

    def make(**changes: Any) -> FlaskClient:
        rules = {"routes": ROUTES, "fallbacks": FALLBACKS}
        app = build(**{"config_path": file, "upstreams": "north, south", **rules, **changes})
        return app.test_client()

    return make


def chat(client: FlaskClient, model: str, question: str = "Why?", **more: Any) -> Any:
    messages = [{"role": "user", "content": question}]
    return client.post(CHAT, json={"model": model, "messages": messages, **more})


@pytest.mark.parametrize(
    ("model", "upstream", "sent"),
    [
        ("north/llama-3", "north", "llama-3"),
        ("north/meta/llama-3", "north", "meta/llama-3"),
        ("north", "north", "big"),
        ("llama-4", "north", "llama-4"),
        ("fast", "south", "small"),
    ],
)
def test_model_with_an_upstream_is_asked_there_with_its_key_only(
    make_client: Callable[..., FlaskClient],
    store: Store,
    north: FakeProvider,
    south: FakeProvider,
    provider: FakeProvider,
    model: str,
    upstream: str,
    sent: str,
) -> None:
    chosen, other, key = (
        (north, south, NORTH_KEY) if upstream == "north" else (south, north, SOUTH_KEY)
    )
    response = chat(make_client(), model, temperature=0.25)
    assert response.status_code == 200, response.text
    [request] = chosen.requests
    assert (request.body["model"], request.key) == (sent, key)
    assert request.body["temperature"] == 0.25
    assert request.headers.get("x-north") == ("yes" if upstream == "north" else None)
    assert not other.requests
    assert not provider.requests
    record = store.newest()
    assert record.params["model"] == model
    assert record.endpoint == chosen.base_url.split("/")[2]
    assert record.details["upstream"] == upstream
    assert "tried_upstreams" not in record.details
    assert response.headers["X-QA-Record"] == str(record.id)


@on_sqlite
def test_model_without_an_upstream_goes_unchanged_to_the_own_provider(
    make_client: Callable[..., FlaskClient],
    store: Store,
    provider: FakeProvider,
    north: FakeProvider,
) -> None:
    body = b'{"model": "m-1",  "messages": [{"role": "user", "content": "Why?"}]}'
    response = make_client().post(CHAT, data=body, content_type="application/json")
    assert response.status_code == 200
    [request] = provider.requests
    assert request.content == body
    assert request.key == KEY
    assert not north.requests
    assert "upstream" not in store.newest().details


@on_sqlite
def test_model_of_a_pattern_is_sent_with_the_bytes_of_the_client(
    make_client: Callable[..., FlaskClient], north: FakeProvider
) -> None:
    body = b'{"model": "llama-4",  "messages": [{"role": "user", "content": "Why?"}]}'
    make_client().post(CHAT, data=body, content_type="application/json")
    assert [request.content for request in north.requests] == [body]


@on_sqlite
@pytest.mark.parametrize("fault", ["status=503", "status=429 retry_after=9", "status=529", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_upstream_that_is_down_is_replaced_and_recorded(
    make_client: Callable[..., FlaskClient],
    store: Store,
    north: FakeProvider,
    south: FakeProvider,
    fault: str,
    stream: bool,
) -> None:
    north.default = fault
    response = chat(make_client(), "north/llama-3", stream=stream)
    assert response.status_code == 200, response.text
    assert "retry-after" not in response.headers
    assert "Why?" in response.text
    assert len(north.requests) == 1
    assert [request.body["model"] for request in south.requests] == ["big"]
    record = store.newest()
    assert (record.status, record.answer) == ("answered", "Answer to: Why?")
    assert record.endpoint == south.base_url.split("/")[2]
    assert record.details["upstream"] == "south"
    [tried] = record.details["tried_upstreams"]
    assert (tried["upstream"], tried["model"]) == ("north", "llama-3")
    status = int(fault[7:10]) if fault.startswith("status") else None
    assert tried.get("status") == status
    assert tried["error"]


@on_sqlite
def test_upstream_that_is_silent_after_its_headers_is_replaced(
    make_client: Callable[..., FlaskClient], store: Store, north: FakeProvider, south: FakeProvider
) -> None:
    north.default = "first_token_delay=30"
    response = chat(make_client(first_token_timeout=0.2), "north/llama-3", stream=True)
    assert "Answer" in response.text
    assert len(south.requests) == 1
    assert store.newest().details["tried_upstreams"][0]["kind"] == "provider-timeout"


@on_sqlite
def test_upstream_without_a_connection_is_replaced(
    make_client: Callable[..., FlaskClient], store: Store, home: Path, south: FakeProvider
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    file = home / "away.toml"
    file.write_text(
        f'[profiles.north]\nbase_url = "http://127.0.0.1:{port}/v1"\n'
        f'[profiles.south]\nbase_url = "{south.base_url}"\nkey_variable = "SOUTH_KEY"\n'
    )
    client = make_client(config_path=file)
    assert chat(client, "north/llama-3").status_code == 200
    assert store.newest().details["tried_upstreams"][0]["kind"] == "provider-unreachable"
    listed = client.get("/v1/models").get_json()["data"]
    assert "south/fake-large" in {item["id"] for item in listed}
    assert not any(item["id"].startswith("north/") for item in listed)


@on_sqlite
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault", ["status=400 code=bad_value param=temperature", "status=404", "status=422"]
)
def test_client_error_is_passed_on_and_no_other_upstream_is_asked(
    make_client: Callable[..., FlaskClient],
    store: Store,
    north: FakeProvider,
    south: FakeProvider,
    fault: str,
    stream: bool,
) -> None:
    north.default = f"{fault} message='Too warm.'"
    response = chat(make_client(), "north/llama-3", stream=stream)
    assert response.status_code == int(fault[7:10])
    assert response.get_json()["error"]["message"] == "Too warm."
    assert not south.requests
    assert store.newest().status == "failed"


@on_sqlite
def test_error_of_the_last_upstream_is_passed_on_unchanged(
    make_client: Callable[..., FlaskClient], store: Store, north: FakeProvider, south: FakeProvider
) -> None:
    north.default = "status=503 message='Down.'"
    south.default = "status=429 retry_after=7 message='Slow down.' code=rate_limit_exceeded"
    response = chat(make_client(retries=2), "north/llama-3")
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "7"
    assert response.get_json()["error"]["message"] == "Slow down."
    assert (len(north.requests), len(south.requests)) == (1, 1)
    record = store.newest()
    assert record.status == "failed"
    assert [item["upstream"] for item in record.details["tried_upstreams"]] == ["north"]


@on_sqlite
def test_answer_that_breaks_off_is_not_asked_for_again(
    make_client: Callable[..., FlaskClient], store: Store, north: FakeProvider, south: FakeProvider
) -> None:
    north.default = "cut=2 text='one two three four'"
    response = chat(make_client(), "north/llama-3", stream=True)
    assert "one" in response.text
    assert not south.requests
    assert store.newest().status == "failed"


@on_sqlite
def test_rejected_key_and_empty_account_are_replaced(
    make_client: Callable[..., FlaskClient], store: Store, north: FakeProvider, south: FakeProvider
) -> None:
    client = make_client()
    for preset, kind in (("bad_key", "key-rejected"), ("quota status=429", "provider-refused")):
        north.default = preset
        assert chat(client, "north/llama-3").status_code == 200
        assert store.newest().details["tried_upstreams"][0]["kind"] == kind
    assert len(south.requests) == 2


def test_ask_uses_the_upstream_its_fallback_and_their_extra_fields(
    make_client: Callable[..., FlaskClient], north: FakeProvider, south: FakeProvider
) -> None:
    client = make_client(retries=1)
    assert client.post("/ask", json={"question": "Why?", "model": "north/m"}).status_code == 200
    [request] = north.requests
    assert (request.body["model"], request.body["north_only"]) == ("m", 1)
    north.default = "status=503"
    south.default = "status=503 times=1 retry_after=0"
    response = client.post("/ask", json={"question": "How?", "model": "north/m"})
    record = response.get_json()
    assert (record["answer"], record["params"]["model"]) == ("Answer to: How?", "north/m")
    assert record["details"]["upstream"] == "south"
    assert len(north.requests) == 2  # not asked again, because another one remained
    assert [request.body["model"] for request in south.requests] == ["big", "big"]
    assert south.requests[0].body["south_only"] == 2
    assert "north_only" not in south.requests[0].body
    follow_up = {"question": "And?", "follows_id": record["id"]}
    assert client.post("/ask", json=follow_up).get_json()["params"]["model"] == "north/m"


@on_sqlite
def test_previous_response_of_another_upstream_is_sent_as_conversation(
    make_client: Callable[..., FlaskClient], store: Store, north: FakeProvider, south: FakeProvider
) -> None:
    client = make_client()
    first = client.post(RESPONSES, json={"model": "north/m", "input": "Why?"}).get_json()
    body = {"model": "north/m", "input": "How?", "previous_response_id": first["id"]}
    north.default = "status=503"
    second = client.post(RESPONSES, json=body)
    assert second.status_code == 200, second.text
    assert north.requests[1].body["previous_response_id"] == first["id"]  # refused: 3 requests
    [sent] = south.requests
    assert "previous_response_id" not in sent.body
    assert [item["role"] for item in sent.body["input"]] == ["user", "assistant", "user"]
    north.default = ""
    body["previous_response_id"] = second.get_json()["id"]
    assert client.post(RESPONSES, json=body).status_code == 200
    assert "previous_response_id" not in north.requests[-1].body  # the answer is south's
    assert len(north.requests) == 4
    assert len(store.thread(store.newest().id or 0)) == 3


@on_sqlite
def test_upstream_without_responses_is_translated_and_remembered(
    make_client: Callable[..., FlaskClient], store: Store, north: FakeProvider, south: FakeProvider
) -> None:
    north.without = ("/v1/responses",)
    client = make_client()
    for _ in range(2):
        answer = client.post(RESPONSES, json={"model": "north/m", "input": "Why?"})
        assert answer.get_json()["output"][-1]["content"][0]["text"] == "Answer to: Why?"
        client.post(RESPONSES, json={"model": "south/m", "input": "Why?"})
    paths = [request.path for request in north.requests]
    assert paths == [RESPONSES, CHAT, CHAT]
    assert [request.path for request in south.requests] == [RESPONSES, RESPONSES]
    assert store.newest().details["upstream"] == "south"


@on_sqlite
def test_embeddings_are_asked_at_the_upstream_and_its_fallback(
    make_client: Callable[..., FlaskClient],
    north: FakeProvider,
    south: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NORTH_KEY", "no-longer-the-key-0123")
    response = make_client().post("/v1/embeddings", json={"model": "north/e", "input": "text"})
    assert response.get_json()["data"][0]["embedding"]
    assert [request.body["model"] for request in north.requests] == ["e"]
    assert [request.body["model"] for request in south.requests] == ["big"]


@on_sqlite
def test_models_lists_those_of_all_upstreams_with_their_names(
    make_client: Callable[..., FlaskClient], north: FakeProvider
) -> None:
    client = make_client()
    listed = client.get("/v1/models").get_json()["data"]
    names = [item["id"] for item in listed]
    assert names[0] == "test-model"
    assert {"fake-large", "north/fake-large", "south/fake-small"} <= set(names)
    assert client.get("/v1/models/north/fake-large").get_json()["id"] == "north/fake-large"
    assert client.get("/v1/models/north/other").status_code == 404
    assert all(item["owned_by"] for item in listed)
    assert north.requests[-1].path == "/v1/models"


@pytest.mark.usefixtures("north")
@on_sqlite
def test_models_of_the_own_provider_that_is_down_are_left_out(
    make_client: Callable[..., FlaskClient],
) -> None:
    client = make_client(api_key="not-the-key-0123456789")
    names = [item["id"] for item in client.get("/v1/models").get_json()["data"]]
    assert names == [
        f"{name}/fake-{size}" for name in ("north", "south") for size in ("large", "small")
    ]


@on_sqlite
def test_ask_stream_with_the_upstream_down_has_the_events_of_the_next(
    make_client: Callable[..., FlaskClient], north: FakeProvider, south: FakeProvider
) -> None:
    north.default = "status=503"
    body = {"question": "Why?", "model": "north/m", "stream": True}
    text = make_client().post("/ask", json=body).text
    assert "event: done" in text
    assert "Answer to: Why?" in text
    assert (len(north.requests), len(south.requests)) == (1, 1)


@on_sqlite
def test_other_path_is_passed_on_to_the_upstream_of_its_model(
    make_client: Callable[..., FlaskClient], north: FakeProvider, provider: FakeProvider
) -> None:
    client = make_client(passthrough=True)
    north.other_reply = "status=418 message='A pot.'"
    spoken = client.post("/v1/audio/speech", json={"model": "north/voice", "input": "Hello"})
    assert spoken.status_code == 418
    assert north.requests[-1].body == {"model": "voice", "input": "Hello"}
    assert client.post("/v1/uploads", data=b"bytes").status_code == 404
    assert provider.requests[-1].content == b"bytes"


@on_sqlite
def test_form_is_passed_on_to_the_upstream_of_its_model(
    make_client: Callable[..., FlaskClient], north: FakeProvider, provider: FakeProvider
) -> None:
    client = make_client(passthrough=True)
    north.other_reply = "status=418 message='A pot.'"
    sound = b"RIFF\r\n\r\nmodel\r\n--other\0" * 9
    form = {"model": "north/whisper", "language": "de", "file": (BytesIO(sound), "model.wav")}
    assert client.post("/v1/audio/transcriptions", data=form).status_code == 418
    sent = north.requests[-1]
    body = {"data": sent.content, "content_type": sent.headers["content-type"]}
    with Request.from_values(**body) as received:
        assert received.form.to_dict() == {"model": "whisper", "language": "de"}
        assert received.files["file"].read() == sound
        assert received.files["file"].filename == "model.wav"
    # An uploaded file has no model.
    upload = {"purpose": "batch", "file": (BytesIO(b"{}"), "a.jsonl")}
    client.post("/v1/audio/voices", data=upload)
    assert b'"purpose"' in provider.requests[-1].content
    assert len(north.requests) == 1


@on_sqlite
def test_key_replayed_with_an_upstream_is_not_asked_again(
    make_client: Callable[..., FlaskClient], north: FakeProvider, south: FakeProvider
) -> None:
    client, north.default = make_client(), "status=503"
    headers = {"Idempotency-Key": "once"}
    body = {"model": "north/m", "messages": [{"role": "user", "content": "Why?"}]}
    first = client.post(CHAT, json=body, headers=headers)
    second = client.post(CHAT, json=body, headers=headers)
    assert first.headers["X-QA-Record"] == second.headers["X-QA-Record"]
    assert (len(north.requests), len(south.requests)) == (1, 1)


@on_sqlite
def test_server_without_an_own_provider_asks_the_first_upstream(
    make_client: Callable[..., FlaskClient], north: FakeProvider
) -> None:
    client = make_client(api_key=None, base_url=None, model=None, routes={})
    assert chat(client, "default").status_code == 200
    assert [request.body["model"] for request in north.requests] == ["big"]
    assert client.get("/v1/models").get_json()["data"][0]["id"] == "north/big"
    bare = make_client(api_key=None, base_url=None, model=None, routes={}, upstreams="south,north")
    assert "south" not in {item["id"] for item in bare.get("/v1/models").get_json()["data"]}
    assert "Name one: south/MODEL" in chat(bare, "default").text
    refused = chat(client, "gpt-9")
    assert refused.status_code == 400
    assert "north/gpt-9" in refused.get_json()["error"]["message"]
    named = make_client(api_key=None, base_url=None, model="south/small")
    answer = named.post("/ask", json={"question": "Why?"}).get_json()
    assert answer["model"] == "small-2026-01-01", answer


@on_sqlite
@pytest.mark.parametrize("model", ["local", "local:/etc/passwd", "local/x"])
def test_local_model_that_is_no_upstream_is_refused_or_not_local(
    make_client: Callable[..., FlaskClient], provider: FakeProvider, model: str
) -> None:
    response = chat(make_client(), model)
    if model == "local/x":  # a model of the server's own provider
        assert provider.requests[0].body["model"] == model
    else:
        assert response.status_code == 400
        assert not provider.requests


@on_sqlite
def test_streamed_bytes_are_those_of_the_upstream(
    make_client: Callable[..., FlaskClient], south: FakeProvider
) -> None:
    text = chat(make_client(), "south/m", stream=True, stream_options={"include_usage": True}).text
    chunks = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    assert {chunk["model"] for chunk in chunks} == {"m-2026-01-01"}
    assert text.rstrip().endswith("data: [DONE]")
    assert len(south.requests) == 1


@on_sqlite
def test_page_offers_the_upstreams_as_profiles_and_no_other_profile(
    make_client: Callable[..., FlaskClient],
    north: FakeProvider,
    south: FakeProvider,
    provider: FakeProvider,
    home: Path,
) -> None:
    with (home / "upstreams.toml").open("a") as file:
        file.write(f'[profiles.private]\nbase_url = "{south.base_url}"\napi_key = "{SOUTH_KEY}"\n')
    client = make_client()
    page = client.get("/").text
    select = page.partition('<select id="ask-profile"')[2].partition("</select>")[0]
    assert re.findall(r"<option[^>]*>([^<]*)", select) == ["automatic", "default", "north", "south"]
    assert SOUTH_KEY not in page

    def ask(**form: str) -> Any:
        return client.post("/page/ask", data={"question": "Why?", **form})

    assert ask(profile="north").status_code == 303
    assert ask(profile="south", model="small").status_code == 303
    assert ask(profile="south", model="south/meta/small").status_code == 303
    assert ask(follows_id="3").status_code == 303
    assert ask(follows_id="3", profile="default").status_code == 303
    assert [request.body["model"] for request in north.requests] == ["big"]
    assert [request.body["model"] for request in south.requests] == [
        *("small", "meta/small", "meta/small")
    ]
    assert [request.body["model"] for request in provider.requests] == ["test-model"]
    for name in ("private", "<b>"):
        response = ask(profile=name)
        assert response.status_code == 422
        assert "Choose one of these: default, north, south." in response.text
        assert "<b>" not in response.text
    assert len(south.requests) == 3


@on_sqlite
def test_page_with_one_provider_offers_no_profile(client: FlaskClient) -> None:
    assert "ask-profile" not in client.get("/").text
    response = client.post("/page/ask", data={"question": "Why?", "profile": "groq"})
    assert response.status_code == 422
