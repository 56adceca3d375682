"""Base URLs as people write them, and keys that cannot be sent."""

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import KEY, Invoke, texts_of, write_env_file
from fake_provider import FakeProvider
from fake_provider import Reply as Faked

from qacli.config.network import Route
from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Question
from qacli.errors import ProviderError, ProviderRefused
from qacli.provider.endpoint import Endpoint, resolve_endpoint, split_user
from qacli.provider.response import ChatResponse
from qacli.provider.sync import SyncProvider

Ask = Callable[..., list[str]]


@pytest.fixture
def database_url(home: Path) -> str:
    return f"sqlite:///{home / 'history.db'}"


@pytest.fixture
def ask(settings: Settings) -> Ask:
    """Return a function that asks at a base URL, and returns the notices."""

    def ask_once(base_url: str, *, connections: int | None = None) -> list[str]:
        notices: list[str] = []
        endpoint = resolve_endpoint(settings.replace(base_url=base_url))
        provider = SyncProvider(
            endpoint, settings, on_notice=notices.append, connections=connections
        )
        try:
            request = ChatRequest(question=Question(question="Who?", params={"model": "m"}))
            assert "".join(texts_of(provider.stream(request, ChatResponse()))) == "Answer to: Who?"
        finally:
            provider.close()
        return notices

    return ask_once


@pytest.mark.parametrize("connections", [None, 4], ids=["httpx2", "aiohttp"])
def test_base_url_with_a_query_sends_it_with_every_path(
    ask: Ask, provider: FakeProvider, connections: int | None
) -> None:
    ask(f"{provider.base_url}/?api-version=2024-10-21&x=a%20b", connections=connections)
    assert provider.requests[-1].path == "/v1/chat/completions?api-version=2024-10-21&x=a%20b"


@pytest.mark.parametrize("connections", [None, 4], ids=["httpx2", "aiohttp"])
def test_base_url_with_password_sends_basic_auth_and_no_key(
    ask: Ask, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, connections: int | None
) -> None:
    monkeypatch.setattr(provider, "api_key", None)
    ask(f"http://us%40er:pass-w%C3%B6rd@127.0.0.1:{provider.port}/v1", connections=connections)
    expected = b64encode("us@er:pass-wörd".encode()).decode()
    assert provider.requests[-1].headers["authorization"] == f"Basic {expected}"


def test_base_url_password_is_never_shown_or_recorded(
    invoke: Invoke, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(provider, "api_key", None)
    url = f"http://user:pass-word@127.0.0.1:{provider.port}/v1"
    for question, code in (("Who?", 0), ("[[status=401 message=pass-word]] Who?", 3)):
        done = invoke("ask", "-v", question, OPENAI_BASE_URL=url)
        assert done.code == code
        assert "pass-word" not in done.err
        assert b64encode(b"user:pass-word").decode() not in done.err
    shown = invoke("config", OPENAI_BASE_URL=url).out
    assert "pass-word" not in shown
    assert "127.0.0.1" in shown
    records = json.loads(invoke("list", "--json").out)
    assert {record["endpoint"] for record in records} == {f"127.0.0.1:{provider.port}"}
    stored = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not any(b"user:pass-word" in content for content in stored)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("connections", [None, 4], ids=["httpx2", "aiohttp"])
def test_base_url_without_v1_finds_it_and_remembers_it(
    ask: Ask, provider: FakeProvider, slash: str, connections: int | None
) -> None:
    url = f"http://127.0.0.1:{provider.port}{slash}"
    (notice,) = ask(url, connections=connections)
    assert "/v1" in notice
    assert ask(url, connections=connections) == []
    paths = [request.path for request in provider.requests]
    assert paths == ["/chat/completions", "/v1/chat/completions", "/v1/chat/completions"]


def test_base_url_that_serves_a_page_finds_v1(
    ask: Ask, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "other_reply", Faked(body="html"))
    (notice,) = ask(f"http://127.0.0.1:{provider.port}")
    assert "/v1" in notice


@pytest.mark.parametrize("path", ["/v1/wrong", "/v1beta/openai", "/openai/deployments/d"])
def test_base_url_with_a_version_is_unchanged(ask: Ask, provider: FakeProvider, path: str) -> None:
    with pytest.raises(ProviderRefused):
        ask(f"http://127.0.0.1:{provider.port}{path}")
    assert len(provider.requests) == 1


def test_base_url_without_an_api_gives_the_first_error(ask: Ask, provider: FakeProvider) -> None:
    with pytest.raises(ProviderError) as caught:
        ask(f"http://127.0.0.1:{provider.port}/nothing")
    assert "/nothing/chat/completions" in caught.value.what
    assert len(provider.requests) == 2


def test_unknown_model_below_the_root_is_not_a_missing_path(
    ask: Ask, provider: FakeProvider
) -> None:
    provider.default = Faked(status=404, message="The model m does not exist.")
    with pytest.raises(ProviderRefused, match="does not exist"):
        ask(f"http://127.0.0.1:{provider.port}")
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("base_url", "path", "headers"),
    [
        (
            "https://r.openai.azure.com/openai/v1",
            "https://r.openai.azure.com/openai/v1/models",
            {"api-key": KEY},
        ),
        (
            "https://r.cognitiveservices.azure.com/openai/deployments/d?api-version=1",
            "https://r.cognitiveservices.azure.com/openai/deployments/d/models?api-version=1",
            {"api-key": KEY},
        ),
        (
            "https://r.services.ai.azure.com/openai/v1/",
            "https://r.services.ai.azure.com/openai/v1/models",
            {"api-key": KEY},
        ),
        (
            "https://openai.azure.com.example/v1",
            "https://openai.azure.com.example/v1/models",
            {"Authorization": f"Bearer {KEY}"},
        ),
    ],
)
def test_endpoint_of_azure_gets_the_key_in_its_own_header(
    base_url: str, path: str, headers: dict[str, str]
) -> None:
    endpoint = Endpoint(base_url=base_url, key=KEY, model="m")
    assert endpoint.url("/models") == path
    assert endpoint.headers == headers


@pytest.mark.parametrize(
    ("base_url", "missing"),
    [
        ("https://r.openai.azure.com", "/openai/v1"),
        ("https://r.openai.azure.com/openai", "/v1"),
        ("https://r.openai.azure.com/openai/deployments/d", None),
        ("http://localhost:11434", "/v1"),
        ("https://h/api/v3", None),
    ],
)
def test_endpoint_missing_path_is_the_usual_one_of_the_host(
    base_url: str, missing: str | None
) -> None:
    assert Endpoint(base_url=base_url, key="", model="m").missing_path == missing


def test_split_user_keeps_the_rest_of_the_url() -> None:
    assert split_user("http://u%3A:p@h:1/v1?q=@") == ("http://h:1/v1?q=@", "u::p")
    assert split_user("http://h/v1") == ("http://h/v1", "")
    assert Route() == Endpoint(base_url="http://h", key="", model="m").route


BAD_KEYS = ["sk-first\nsk-second", "sk-se cret", "sk-secret\n", "sk-sécret", "sk-se\x7fcret", "\t"]


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("source", ["environment", ".env", "config"])
def test_key_invalid_in_a_header_is_refused_and_not_sent(
    invoke: Invoke, provider: FakeProvider, home: Path, key: str, source: str
) -> None:
    environ = {"OPENAI_API_KEY": key if source == "environment" else ""}
    if source == ".env":
        quoted = json.dumps(key, ensure_ascii=False)
        write_env_file(f"OPENAI_BASE_URL={provider.base_url}\nOPENAI_API_KEY={quoted}\n")
    elif source == "config":
        text = json.dumps(key).replace("\x7f", "\\u007F")
        (home / "config.toml").write_text(f"api_key = {text}\n")
    done = invoke("ask", "Who?", **environ)
    place = {"environment": "variable OPENAI_API_KEY", ".env": ".env", "config": "config.toml"}
    assert (done.code, place[source] in done.err) == (3, True), done.err
    assert "The key from" in done.err
    assert "sk-" not in done.err
    assert not provider.requests
    assert invoke("list", "--json", OPENAI_API_KEY=KEY).out.strip() == "[]"


def test_key_command_that_prints_a_bad_key_is_named(invoke: Invoke) -> None:
    done = invoke("ask", "Who?", OPENAI_API_KEY="", QA_KEY_COMMAND="echo 'sk-se cret'")
    assert (done.code, "echo" in done.err, "sk-" in done.err) == (3, True, False)
