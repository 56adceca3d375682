"""The options that go to the model, in every command and over HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Invoke
from fake_provider import FakeProvider, Reply
from flask import Flask

from qacli.errors import InvalidRequest
from qacli.model_options import merge_params, parse_options

FLAGS = [
    *("--temperature", "0.5", "--max-tokens", "9", "--reasoning-effort", "xhigh"),
    *("--verbosity", "low", "--top-p", "0.9", "--seed", "-7", "--stop", "a", "--stop", "b"),
    *("--option", 'provider.order=["groq"]', "--option", "provider.sort=price", "--option", "k=1"),
]
PARAMS: dict[str, Any] = {
    "temperature": 0.5,
    "max_tokens": 9,
    "reasoning_effort": "xhigh",
    "verbosity": "low",
    "top_p": 0.9,
    "seed": -7,
    "stop": ["a", "b"],
    "provider": {"order": ["groq"], "sort": "price"},
    "k": 1,
}


@pytest.fixture
def database_url(home: Path) -> str:
    return f"sqlite:///{home / 'history.db'}"


def sent(provider: FakeProvider) -> dict[str, Any]:
    """Return the options in the last request."""
    names = {"model", "messages", "stream", "stream_options"}
    return {key: value for key, value in provider.requests[-1].body.items() if key not in names}


@pytest.mark.parametrize("command", ["ask", "chat", "batch"])
def test_options_of_each_command_are_sent_and_recorded(
    invoke: Invoke, provider: FakeProvider, command: str
) -> None:
    Path("q.txt").write_text("Who?\n")
    words = {"ask": ["Who?"], "chat": [], "batch": ["q.txt", "--quiet"]}[command]
    done = invoke(command, *words, *FLAGS, input="Who?\n" if command == "chat" else "")
    assert done.code == 0, done.err
    assert sent(provider) == PARAMS
    record = json.loads(invoke("show", "last", "--json").out)
    assert record["params"] == {"model": "test-model", **PARAMS}
    assert "xhigh" in invoke("show", "last").out


def test_options_of_post_ask_are_sent_and_recorded(
    build: Callable[..., Flask], provider: FakeProvider, invoke: Invoke
) -> None:
    assert invoke("migrate").code == 0
    named = {key: value for key, value in PARAMS.items() if key not in {"provider", "k"}}
    options = {"provider": PARAMS["provider"], "k": 1}
    client = build().test_client()
    response = client.post("/ask", json={"question": "Who?", **named, "options": options})
    assert response.status_code == 200, response.text
    assert sent(provider) == PARAMS
    assert response.get_json()["params"] == {"model": "test-model", **PARAMS}
    for body in ({"top_p": 1.1}, {"stop": []}, {"seed": 1.5}, {"options": {"messages": []}}):
        assert client.post("/ask", json={"question": "Who?", **body}).status_code == 422, body


def test_options_of_an_item_override_those_of_the_batch(
    invoke: Invoke, provider: FakeProvider
) -> None:
    item = {"question": "Who?", "top_p": 0.1, "stop": "x", "options": {"provider": {"sort": "z"}}}
    Path("q.jsonl").write_text(json.dumps(item) + "\n")
    assert invoke("batch", "q.jsonl", "--quiet", *FLAGS).code == 0
    merged = {"order": ["groq"], "sort": "z"}
    assert sent(provider) == {**PARAMS, "top_p": 0.1, "stop": ["x"], "provider": merged}


def test_options_of_a_template_are_overridden_by_flags(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "templates").mkdir()
    text = 'reasoning_effort = "low"\nseed = 1\n[options]\nk = 2\nprovider.order = ["a"]\n'
    (home / "templates" / "t.toml").write_text(text)
    done = invoke("ask", "-t", "t", "--seed", "5", "--option", "provider.sort=b", "Who?")
    assert done.code == 0, done.err
    merged = {"order": ["a"], "sort": "b"}
    assert sent(provider) == {"reasoning_effort": "low", "seed": 5, "k": 2, "provider": merged}


def test_reuse_with_other_options_asks(invoke: Invoke, provider: FakeProvider) -> None:
    for effort, requests in (("low", 1), ("low", 1), ("high", 2)):
        assert invoke("ask", "--reuse", "--reasoning-effort", effort, "Who?").code == 0
        assert len(provider.requests) == requests
    invoke("ask", "--reuse", "--reasoning-effort", "low", "--option", "k=1", "Who?")
    assert len(provider.requests) == 3


@pytest.mark.parametrize(
    ("message", "options", "advice"),
    [
        ("Unsupported parameter: 'top_p'.", ["--top-p", "1"], "Leave out --top-p,"),
        ("Unknown name: top_k", ["--option", "top_k=4"], "Leave out --option top_k,"),
        ("max_completion_tokens is too large", ["--max-tokens", "9"], "Leave out --max-tokens,"),
        ("provider.order is unknown", ["--option", "provider.order=1"], "--option provider,"),
        ("top_p is unknown", [], "Change the question or the options."),
    ],
)
def test_option_that_the_provider_refuses_is_named(
    invoke: Invoke, provider: FakeProvider, message: str, options: list[str], advice: str
) -> None:
    provider.default = Reply(status=400, message=message)
    done = invoke("ask", *options, "Who?")
    assert (done.code, advice in done.err) == (5, True), done.err


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("model=x", "--model"),
        ("messages=[]", "argument"),
        ("stream=false", "--no-stream"),
        ("n=2", "one answer"),
        ("response_format={}", "--schema"),
        ("top_k", "NAME=VALUE"),
        ("=1", "NAME=VALUE"),
        ("a..b=1", "NAME=VALUE"),
    ],
)
def test_option_that_cannot_be_used_is_an_error(
    invoke: Invoke, provider: FakeProvider, option: str, part: str
) -> None:
    done = invoke("ask", "Who?", "--option", option)
    assert (done.code, part in done.err, provider.requests) == (2, True, []), done.err


@pytest.mark.parametrize("flag", [["--top-p", "1.5"], ["--top-p", "-1"], ["--option", "seed=x"]])
def test_option_out_of_range_is_an_error(invoke: Invoke, flag: list[str]) -> None:
    assert invoke("ask", "Who?", *flag).code == 2


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        (["a=1", "b=x=y", "c="], {"a": 1, "b": "x=y", "c": ""}),
        (["a=true", "b=null", 'c="1"', "d=NaN"], {"a": True, "b": None, "c": "1", "d": "NaN"}),
        (["a.b.c=[1]", "a.b.d={}", "a.e=1"], {"a": {"b": {"c": [1], "d": {}}, "e": 1}}),
    ],
)
def test_parse_options_json_and_dotted_names(texts: list[str], options: dict[str, Any]) -> None:
    assert parse_options(texts) == options


def test_parse_options_name_of_a_value_and_an_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs an object"):
        parse_options(["a=1", "a.b=2"])


def test_merge_params_first_layer_has_precedence() -> None:
    layers = [{"a": 1, "d": {"x": 1}}, {"a": 2, "b": None, "d": {"y": 2}}, {"b": 3, "d": {"x": 0}}]
    assert merge_params(*layers) == {"a": 1, "b": 3, "d": {"x": 1, "y": 2}}
