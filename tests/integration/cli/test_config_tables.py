"""Aliases, defaults of models, headers and extra fields in the configuration file."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, Invoke
from fake_provider import FakeProvider

from qacli.config.loader import load_settings

Write = Callable[[str], Path]


@pytest.fixture
def database_url(home: Path) -> str:
    return f"sqlite:///{home / 'history.db'}"


@pytest.fixture
def write(home: Path, provider: FakeProvider, invoke: Invoke) -> Write:
    """Return a function that writes the configuration file, with the endpoint in it."""
    invoke.env["OPENAI_BASE_URL"] = ""

    def write_file(text: str) -> Path:
        path = home / "config.toml"
        path.write_text(f"base_url = '{provider.base_url}'\n{text}")
        return path

    return write_file


MODELS = """
extra_body = { user = "qa", provider.sort = "price" }
[aliases]
fast = "gpt-6-luna"
[models."gpt-6-luna"]
temperature = 0.2
reasoning_effort = "low"
provider.order = ["a"]
[models.other]
seed = 3
"""


@pytest.mark.parametrize("command", ["ask", "chat", "batch", "item", "serve"])
def test_alias_and_model_defaults_are_used_by_all_commands(
    invoke: Invoke, provider: FakeProvider, write: Write, build: Any, command: str
) -> None:
    write(MODELS)
    Path("q.jsonl").write_text('{"question": "Who?"}\n')
    Path("item.jsonl").write_text('{"question": "Who?", "model": "fast", "temperature": 0.5}\n')
    if command == "serve":
        settings = load_settings()
        changes = {"aliases": settings.aliases, "model_defaults": settings.model_defaults}
        app = build(**changes, extra_body=settings.extra_body)
        assert invoke("migrate").code == 0
        body = {"question": "Who?", "model": "fast", "temperature": 0.5}
        assert app.test_client().post("/ask", json=body).status_code == 200
    elif command == "item":
        assert invoke("batch", "item.jsonl", "--quiet", "-m", "other").code == 0
    else:
        words = {"ask": ["Who?"], "chat": [], "batch": ["q.jsonl", "--quiet"]}[command]
        done = invoke(
            command,
            *words,
            "-m",
            "fast",
            "--temperature",
            "0.5",
            input="Who?\n" * (command == "chat"),
        )
        assert done.code == 0, done.err
    record = json.loads(invoke("show", "last", "--json").out)
    assert record["params"] == {
        "model": "gpt-6-luna",
        "temperature": 0.5,
        "reasoning_effort": "low",
        "user": "qa",
        "provider": {"sort": "price", "order": ["a"]},
    }
    assert provider.requests[-1].body["provider"] == {"sort": "price", "order": ["a"]}


def test_headers_of_a_profile_are_sent_and_masked(
    invoke: Invoke, provider: FakeProvider, write: Write
) -> None:
    write(
        f"[profiles.work]\nbase_url = '{provider.base_url}'\n[profiles.work.headers]\n"
        'X-Team = "blue"\nX-Api-Key = "literal-secret"\nX-Zone = "z-${ZONE}"\n'
        'Authorization = "Token $TOKEN_OF_WORK"\n'
    )
    variables = {"ZONE": "zone-in-secret", "TOKEN_OF_WORK": KEY, "OPENAI_API_KEY": "sk-other-0123"}
    provider.api_key = None
    try:
        done = invoke("--profile", "work", "ask", "-v", "Who?", **variables)
    finally:
        provider.api_key = KEY
    assert done.code == 0, done.err
    headers = provider.requests[-1].headers
    assert headers["authorization"] == f"Token {KEY}"
    assert (headers["x-team"], headers["x-zone"]) == ("blue", "z-zone-in-secret")
    assert headers["x-api-key"] == "literal-secret"
    assert "X-Team: blue" in done.err
    shown = invoke("--profile", "work", "config", "show", "--json", **variables).out
    for secret in ("zone-in-secret", "literal-secret", KEY, "sk-other-0123"):
        assert secret not in done.err
        assert secret not in shown
    assert json.loads(shown)["headers"]["value"]["X-Team"] == "blue"
    assert invoke("ask", "Who?").code == 0
    assert "x-team" not in provider.requests[-1].headers


def test_headers_are_not_sent_to_an_endpoint_of_the_environment(
    invoke: Invoke, provider: FakeProvider, write: Write
) -> None:
    write('headers = { X-Api-Key = "literal-secret" }\nextra_body = { user = "qa" }\n')
    assert invoke("ask", "Who?", OPENAI_BASE_URL=provider.base_url).code == 0
    assert "x-api-key" not in provider.requests[-1].headers
    assert "user" not in provider.requests[-1].body


@pytest.mark.parametrize("value", ["", "a\nb"])
def test_header_with_an_unusable_variable_is_an_error(
    invoke: Invoke, provider: FakeProvider, write: Write, value: str
) -> None:
    write('headers = { X-Zone = "$ZONE" }\n')
    done = invoke("ask", "Who?", ZONE=value)
    assert (done.code, "ZONE" in done.err, provider.requests) == (3, True, []), done.err


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("[aliases]\nfast = 1", 3, "aliases.fast is not the name of a model"),
        ("[aliases]\na = 'b'\nb = 'c'", 3, "which is an alias too"),
        ("aliases = 'x'", 2, "aliases is not a table"),
        ("[models]\nm = 1", 3, "models.m is not a table"),
        ("[models.m]\nstream = true", 3, "stream cannot be set as an option"),
        ("[models.m]\n\ntemperature = 9", 4, "out of range"),
        ("[models.m]\nday = 2026-01-01", 3, "not JSON"),
        ("[headers]\n'X Y' = 'z'", 3, "not the name of a header"),
        ("[headers]\nX = 1", 3, "not a text"),
        ("[headers]\nX = 'a$'", 3, "a literal $ is $$"),
        ("[profiles.p.headers]\nX = 'ü'", 3, "not a text"),
        ("[extra_body]\nmodel = 'x'", 3, "model cannot be set"),
        ("[profiles.p.aliases]\na = 'b'", 2, "not a setting"),
    ],
)
def test_table_with_a_bad_value_is_an_error_with_its_line(
    invoke: Invoke, write: Write, text: str, line: int, part: str
) -> None:
    path = write(text + "\n")
    profile = ("--profile", "p") if "profiles.p.headers" in text else ()
    done = invoke(*profile, "list")
    assert done.code == 3
    assert part in done.err
    assert f"ine {line} of {path}" in done.err, done.err


def test_config_set_and_unset_change_entries_of_tables(invoke: Invoke, write: Write) -> None:
    path = write("# mine\n")
    for name, value in (
        ("aliases.fast", "gpt-6.1-sol"),
        ("models.gpt-6.1-sol.seed", "7"),
        ("models.gpt-6.1-sol.reasoning_effort", "low"),
        ("headers.X-Team", "7"),
        ("headers.X-Api-Key", "$KEY_OF_TEAM"),
        ("extra_body.provider.order", '["a"]'),
    ):
        done = invoke("config", "set", name, value)
        assert done.code == 0, done.err
    assert invoke("--profile", "p", "config", "set", "headers.X", "y").code == 0
    tables = tomllib.loads(path.read_text())
    assert tables["aliases"] == {"fast": "gpt-6.1-sol"}
    assert tables["models"] == {"gpt-6.1-sol": {"seed": 7, "reasoning_effort": "low"}}
    assert tables["headers"] == {"X-Team": "7", "X-Api-Key": "$KEY_OF_TEAM"}
    assert tables["extra_body"] == {"provider": {"order": ["a"]}}
    assert tables["profiles"] == {"p": {"headers": {"X": "y"}}}
    shown = invoke("config").out
    assert "aliases" in shown
    assert "$KEY_OF_TEAM" in shown
    assert invoke("config", "unset", "models.gpt-6.1-sol.seed").code == 0
    assert "seed" not in path.read_text()
    assert invoke("config", "unset", "headers.None").code == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("headers.X-Api-Key", "literal"),
        ("models.m", "1"),
        ("nothing.x", "1"),
        ("models.m.messages", "[]"),
        ("models.m.temperature", "9"),
        ("headers.X Y", "1"),
        ("aliases.", "1"),
    ],
)
def test_config_set_of_a_bad_entry_changes_nothing(
    invoke: Invoke, write: Write, name: str, value: str
) -> None:
    path = write("# mine\n")
    before = path.read_text()
    done = invoke("config", "set", name, value)
    assert (done.code, path.read_text()) == (2, before), done.err


@pytest.mark.parametrize("table", ["[models.m]", "[extra_body]"])
@pytest.mark.usefixtures("home")
def test_tools_by_name_become_tools_of_each_question(write: Write, table: str) -> None:
    write(f'{table}\ntools = ["web_search"]\n')
    assert load_settings().default_params("m") == {"tools": [{"type": "web_search"}]}
