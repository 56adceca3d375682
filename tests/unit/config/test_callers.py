from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from qacli.config.callers import administrators, check_tokens, named_tokens, parse_tokens
from qacli.config.parsers import parse_list, parse_origins, parse_rates
from qacli.config.settings import Settings
from qacli.errors import NotConfigured
from qacli.web import run

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke


def test_named_tokens_returns_tokens_by_caller() -> None:
    text = " alice = secret=1 ,bob=ß,"
    assert parse_tokens(text) == text
    assert named_tokens(text) == {"alice": "secret=1", "bob": "ß"}
    settings = Settings(token="t", tokens=text)
    assert settings.callers == {"default": "t", "alice": "secret=1", "bob": "ß"}
    assert Settings().callers == {}


@pytest.mark.parametrize(
    "text",
    [
        *(",", "secret", "alice=", "=secret", "alice=a,alice=b", "alice=same,bob=same"),
        *("alice=a,admin:alice=b", "admin:=a", "admin:default=a", "admin:admin:a=b", "root:a=b"),
        *("default=a", "two words=a", "line\nend=a", "ä=a", f"{'a' * 65}=a", "alice=a,bob"),
    ],
)
def test_parse_tokens_invalid_raises(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it has no message; the loader adds one
        parse_tokens(text)


def test_tokens_with_admin_mark_administrators() -> None:
    text = " admin:alice = one , bob=admin:two, admin=three"
    assert parse_tokens(text) == text
    assert named_tokens(text) == {"alice": "one", "bob": "admin:two", "admin": "three"}
    assert administrators(text) == Settings(tokens=text).administrators == {"alice"}
    assert Settings(token="t", tokens=text).administrators == {"default", "alice"}
    assert Settings().administrators == set()


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ({"default": "x" * 15}, "The token of QA_TOKEN has 15 characters"),
        ({"alice": "x" * 16, "bob": "short"}, "The token of bob in QA_TOKENS has 5 characters"),
        ({"default": "x" * 16, "bob": "x" * 16}, "in QA_TOKENS is also the token of default."),
    ],
)
def test_check_tokens_weak_token_is_named_with_advice(
    tokens: dict[str, str], sentence: str
) -> None:
    with pytest.raises(NotConfigured) as caught:
        check_tokens(tokens)
    assert sentence in caught.value.what
    assert "openssl rand -hex 32" in caught.value.todo
    assert "xxx" not in str(caught.value)
    check_tokens({"alice": "x" * 16, "bob": "y" * 16})


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "tokens",
    [
        {"QA_TOKEN": "fifteen-letters"},
        {"QA_TOKENS": "alice=short"},
        {"QA_TOKENS": "alice=0123456789abcdef,bob=0123456789abcdef"},
        {"QA_TOKENS": "alice=0123456789abcdef,alice=fedcba9876543210"},
        {"QA_TOKEN": "0123456789abcdef", "QA_TOKENS": "alice=0123456789abcdef"},
    ],
    ids=lambda tokens: "+".join(tokens.values()),
)
def test_serve_with_weak_tokens_does_not_start(invoke: Invoke, tokens: dict[str, str]) -> None:
    done = invoke("serve", "--port", "0", **tokens)
    assert (done.code, done.out) == (3, "")
    assert done.err.count("\n") == 1
    assert "QA_TOKEN" in done.err
    for secret in ("fifteen", "short", "0123456789"):
        assert secret not in done.err


@pytest.mark.parametrize(
    "origin", ["https://app.example.com", "http://localhost:3000", "http://[::1]:3000"]
)
def test_parse_origins_returns_the_form_of_a_browser(origin: str) -> None:
    assert parse_list(parse_origins(f"{origin}, https://b.example")) == [
        origin,
        "https://b.example",
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("*", "https://*.example.com", "null", "app.example.com", "https://app.example.com/"),
        *("https://app.example.com/x", "ftp://a.example", "https://u@a.example", "https://"),
        *("https://a.example:x", "https://a.example:0", "http://[", "https://a.example,*"),
    ],
)
def test_parse_origins_invalid_raises(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it has no message; the loader adds one
        parse_origins(text)


@pytest.mark.parametrize("text", ["1/second", "60/minute", "60/minute, 500/day", "9/hour"])
def test_parse_rates_number_for_a_time_is_accepted(text: str) -> None:
    assert parse_rates(text) == text


@pytest.mark.parametrize("text", ["60", "0/minute", "-1/minute", "60/fortnight", "1.5/day", "/day"])
def test_parse_rates_invalid_raises(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it has no message; the loader adds one
        parse_rates(text)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_config_with_tokens_shows_only_their_names(invoke: Invoke) -> None:
    tokens = {"QA_TOKENS": "admin:alice=secret-alice-0123456789,bob=b0b"}
    shown = invoke("config", "--json", **tokens)
    assert json.loads(shown.out)["tokens"]["value"] == "admin:alice=***,bob=***"
    for text in (
        shown.out,
        invoke("config", **tokens).out,
        invoke("serve", **tokens, QA_SERVE_PORT="x").err,
    ):
        assert "6789" not in text
        assert "b0b" not in text
    wrong = invoke("config", QA_TOKENS="secret-alice")
    assert wrong.code == 3
    assert "QA_TOKENS" in wrong.err
    assert "secret-alice" not in wrong.err


def test_redact_removes_every_token() -> None:
    settings = Settings(token="unnamed-token", tokens="alice=alice-token,bob=bob-token")
    text = "unnamed-token alice-token bob-token alice=alice-token,bob=bob-token"
    assert "token" not in settings.redact(text)


def test_serve_on_a_public_host_accepts_named_tokens(tmp_path: Path) -> None:
    settings = {"data_dir": tmp_path, "host": "0.0.0.0", "serve_port": 0}  # noqa: S104 - on purpose
    with run.prepare(Settings(**settings, tokens="alice=secret-0123456789")) as address:
        assert address.startswith("http://0.0.0.0:")
    with pytest.raises(NotConfigured), run.prepare(Settings(**settings)):
        pass
