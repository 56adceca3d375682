"""Several upstreams of one server: chosen by the model's name, with fallbacks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY
from fake_provider import FakeProvider, Reply

from qacli.errors import NotConfigured
from qacli.web.upstreams import OWN, Target, Upstreams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.config.settings import Settings
    from qacli.db.records import Store

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
GROQ_KEY = "gsk-0123456789abcdef"
WHO: dict[str, Any] = {"messages": [{"role": "user", "content": "Who?"}]}
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def groq() -> Iterator[FakeProvider]:
    with FakeProvider(api_key=GROQ_KEY, models=("llama-4", "openai/gpt-oss")) as provider:
        yield provider


@pytest.fixture
def config(home: Path, groq: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MY_GROQ_KEY", GROQ_KEY)
    path = home / "config.toml"
    path.write_text(
        f"[profiles.groq]\nbase_url = '{groq.base_url}'\nkey_variable = 'MY_GROQ_KEY'\n"
        "[profiles.groq.extra_body]\nservice_tier = 'flex'\n"
    )
    return path


@pytest.fixture
def settings(settings: Settings, config: Path) -> Settings:
    return replace(
        settings,
        config_path=config,
        upstreams="groq",
        routes={"llama-*": "groq", "big": "groq/openai/gpt-oss"},
    )


def sent_models(provider: FakeProvider) -> list[str]:
    return [json.loads(request.content)["model"] for request in provider.requests]


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "sent"),
    [("groq/llama-4", "llama-4"), ("llama-4", "llama-4"), ("big", "openai/gpt-oss")],
)
def test_model_of_an_upstream_is_asked_there_by_its_own_name(
    client: FlaskClient,
    provider: FakeProvider,
    groq: FakeProvider,
    store: Store,
    path: str,
    stream: bool,
    model: str,
    sent: str,
) -> None:
    body = {**WHO, "model": model, "stream": stream}
    if path == RESPONSES:
        body = {"input": "Who?", "model": model, "stream": stream}
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert not provider.requests
    assert sent_models(groq) == [sent]
    record = store.newest()
    assert record.params["model"] == model
    assert record.endpoint == f"127.0.0.1:{groq.port}"
    assert record.answer == "Answer to: Who?"
    assert "fallbacks" not in record.details


@on_sqlite
def test_question_of_ask_goes_to_the_upstream_of_its_model(
    client: FlaskClient, provider: FakeProvider, groq: FakeProvider
) -> None:
    record = client.post("/ask", json={"question": "Who?", "model": "groq/llama-4"}).get_json()
    assert record["answer"] == "Answer to: Who?"
    assert record["params"]["model"] == "groq/llama-4"
    follow = client.post("/ask", json={"question": "And?", "follows_id": record["id"]}).get_json()
    assert follow["params"]["model"] == "groq/llama-4"
    assert sent_models(groq) == ["llama-4", "llama-4"]
    other = client.post("/ask", json={"question": "Who?"}).get_json()
    assert other["params"]["model"] == "test-model"
    assert sent_models(provider) == ["test-model"]


@on_sqlite
def test_key_of_the_environment_is_not_sent_to_an_upstream(
    build: Callable[..., Flask], store: Store, groq: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("MY_GROQ_KEY")
    assert store
    response = build().test_client().post(CHAT, json={**WHO, "model": "groq/llama-4"})
    assert response.status_code == 503
    assert "MY_GROQ_KEY" in response.text
    assert not groq.requests


@on_sqlite
@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        *((f"status={status}", stream) for status in (401, 429, 503, 529) for stream in (0, 1)),
        ("cut=0", False),
    ],
)
def test_fallback_of_an_upstream_that_is_away_answers_once(
    build: Callable[..., Flask],
    provider: FakeProvider,
    groq: FakeProvider,
    store: Store,
    stream: bool,
    fault: str,
) -> None:
    client = build(fallbacks={"groq": [f"{OWN}/spare"]}).test_client()
    groq.default = fault
    response = client.post(CHAT, json={**WHO, "model": "groq/llama-4", "stream": stream})
    assert response.status_code == 200, response.text
    assert "error" not in response.text
    assert (sent_models(groq), sent_models(provider)) == (["llama-4"], ["spare"])
    record = store.newest()
    assert (record.answer, record.params["model"]) == ("Answer to: Who?", "groq/llama-4")
    assert record.endpoint == f"127.0.0.1:{provider.port}"
    [failure] = record.details["fallbacks"]
    assert (failure["upstream"], failure["model"]) == ("groq", "llama-4")
    assert GROQ_KEY not in json.dumps(failure)


@on_sqlite
def test_fallback_of_an_upstream_without_a_server_answers(
    build: Callable[..., Flask], config: Path, groq: FakeProvider, store: Store
) -> None:
    config.write_text(f"{config.read_text()}[profiles.gone]\nbase_url = 'http://127.0.0.1:9/v1'\n")
    client = build(upstreams="gone,groq", fallbacks={"gone": ["groq/llama-4"]}).test_client()
    response = client.post(CHAT, json={**WHO, "model": "gone/m", "stream": True})
    assert response.status_code == 200, response.text
    assert sent_models(groq) == ["llama-4"]
    assert store.newest().details["fallbacks"][0]["kind"] == "provider-unreachable"


@on_sqlite
def test_fallback_of_ask_is_the_record_of_one_question(
    build: Callable[..., Flask], provider: FakeProvider, groq: FakeProvider, store: Store
) -> None:
    client = build(fallbacks={OWN: ["groq/llama-4"]}, retries=0).test_client()
    provider.default = "status=503"
    record = client.post("/ask", json={"question": "Who?"}).get_json()
    assert (record["answer"], record["params"]["model"]) == ("Answer to: Who?", "test-model")
    assert record["details"]["fallbacks"][0]["status"] == 503
    assert sent_models(groq) == ["llama-4"]
    assert store.count() == 1


@on_sqlite
@pytest.mark.parametrize("stream", [False, True])
def test_error_of_the_client_is_passed_on_without_a_fallback(
    build: Callable[..., Flask],
    provider: FakeProvider,
    groq: FakeProvider,
    store: Store,
    stream: bool,
) -> None:
    assert store
    client = build(fallbacks={"groq": [OWN]}).test_client()
    groq.default = "status=400 message='Too hot.'"
    response = client.post(CHAT, json={**WHO, "model": "groq/llama-4", "stream": stream})
    assert (response.status_code, "Too hot." in response.text) == (400, True)
    assert not provider.requests


@on_sqlite
def test_all_targets_away_passes_the_last_error_on(
    build: Callable[..., Flask], provider: FakeProvider, groq: FakeProvider, store: Store
) -> None:
    client = build(fallbacks={"groq": [OWN]}).test_client()
    groq.default, provider.default = "status=503", "status=429 retry_after=7 message='Later.'"
    response = client.post(CHAT, json={**WHO, "model": "groq/llama-4"})
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert "Later." in response.text
    record = store.newest()
    assert record.status == "failed"
    assert record.details["fallbacks"][0]["status"] == 503


@on_sqlite
def test_answer_cut_off_in_the_middle_is_not_asked_elsewhere(
    build: Callable[..., Flask], provider: FakeProvider, groq: FakeProvider, store: Store
) -> None:
    client = build(fallbacks={"groq": [OWN]}).test_client()
    groq.default = Reply.parse("text='One two three' cut=2")
    response = client.post(CHAT, json={**WHO, "model": "groq/llama-4", "stream": True})
    assert "error" in response.text
    assert not provider.requests
    assert store.newest().answer


@on_sqlite
def test_models_of_all_upstreams_are_listed_with_their_prefix(
    client: FlaskClient, groq: FakeProvider
) -> None:
    listed = [item["id"] for item in client.get("/v1/models").get_json()["data"]]
    assert listed[0] == "test-model"
    assert {"fake-large", "groq/llama-4", "groq/openai/gpt-oss"} <= set(listed)
    one = client.get("/v1/models/groq/openai/gpt-oss")
    assert one.get_json()["id"] == "groq/openai/gpt-oss"
    groq.models_reply = "status=503"
    listed = [item["id"] for item in client.get("/v1/models").get_json()["data"]]
    assert "fake-large" in listed
    assert "groq/llama-4" not in listed


@on_sqlite
def test_embeddings_go_to_the_upstream_of_their_model(
    client: FlaskClient, provider: FakeProvider, groq: FakeProvider
) -> None:
    client.post("/v1/embeddings", json={"model": "groq/embed-1", "input": "a"})
    assert not provider.requests
    assert sent_models(groq) == ["embed-1"]


@on_sqlite
def test_local_model_is_refused_unless_it_is_an_upstream(client: FlaskClient) -> None:
    response = client.post(CHAT, json={**WHO, "model": "local"})
    assert response.status_code == 400, response.text
    assert "QA_UPSTREAMS=local" in response.text


@on_sqlite
def test_local_upstream_loads_no_file_that_a_client_names(build: Callable[..., Flask]) -> None:
    client = build(upstreams="groq,local").test_client()
    response = client.post(CHAT, json={**WHO, "model": "local:/etc/passwd"})
    assert response.status_code == 400, response.text


@on_sqlite
def test_known_provider_needs_no_profile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", GROQ_KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    upstreams = Upstreams(replace(settings, upstreams="groq,mistral"), connections=1)
    endpoint = upstreams.connect("mistral").endpoint
    assert (endpoint.name, endpoint.key) == ("api.mistral.ai", GROQ_KEY)


@on_sqlite
def test_targets_are_in_the_order_of_route_and_fallbacks(settings: Settings) -> None:
    upstreams = Upstreams(
        replace(settings, fallbacks={"groq": [OWN, "groq/small"], OWN: ["groq"]}), connections=1
    )
    assert upstreams.targets("llama-4") == [
        Target("groq", "llama-4"),
        Target(OWN, "llama-4"),
        Target("groq", "small"),
    ]
    assert upstreams.targets("other") == [Target(OWN, "other"), Target("groq", "other")]


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upstreams": "grok"}, "names 'grok', which is neither a profile"),
        ({"upstreams": "azure"}, "names 'azure', which is neither a profile"),
        ({"routes": {"a*": "azure"}}, "names 'azure', which is not an upstream"),
        ({"fallbacks": {"groq": ["local"]}}, "names 'local', which is not an upstream"),
        ({"fallbacks": {"azure": ["groq"]}}, "names 'azure', which is not an upstream"),
    ],
)
def test_upstreams_unknown_name_is_an_error_of_the_configuration(
    settings: Settings, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(NotConfigured, match=message):
        Upstreams(replace(settings, **changes), connections=1)
