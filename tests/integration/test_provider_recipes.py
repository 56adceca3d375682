"""The recipes in docs/providers.md: each command, with the fake provider at the provider's URL."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, Invoke
from fake_provider import FakeProvider, Reply

from qacli.config.providers import known_providers
from qacli.model_options import parse_options

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
RECIPES = dict(
    re.findall(r"^### ([^\n]+)\n\n```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
)
OTHER_PROGRAMS = {"ollama", "lms", "vllm", "llama-server", "litellm"}
"""Programs that serve a model; here the fake provider does."""

DOG = '{"name": "Rex", "age": 3}'


@pytest.fixture
def database_url(home: Path) -> str:
    return f"sqlite:///{home / 'history.db'}"


@pytest.fixture
def open_provider(provider: FakeProvider) -> Iterator[FakeProvider]:
    """A provider that needs no key, and accepts any."""
    provider.api_key = None
    yield provider
    provider.api_key = KEY


def commands(recipe: str) -> tuple[dict[str, str], list[list[str]]]:
    """Return the exported variables of a recipe, and its calls of qa without the name."""
    env, calls = {}, []
    for line in RECIPES[recipe].splitlines():
        words = shlex.split(line)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            env[name] = value
        elif words[0] == "qa":
            calls.append(words[1:])
        else:
            assert words[0] in OTHER_PROGRAMS, line
    return env, calls


def test_recipes_are_those_of_the_known_providers() -> None:
    profiles = [call[2] for name in RECIPES for call in commands(name)[1] if call[0] == "config"]
    assert {*profiles, "together"} == {*known_providers()}
    keys = {name: item.key for name, item in known_providers().items()}
    variables = {name for recipe in RECIPES for name in commands(recipe)[0]}
    assert variables == {keys[name] for name in profiles} - {None}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_commands_are_answered_with_their_options(
    invoke: Invoke, open_provider: FakeProvider, home: Path, recipe: str
) -> None:
    (home / "questions.txt").write_text("One?\nTwo?\n")
    env, calls = commands(recipe)
    invoke.env |= {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "QA_MODEL": "", **env}
    for call in calls:
        text = DOG if "--schema" in call else "yes"
        open_provider.default = Reply(text=text)
        words = with_url(call, f"http://127.0.0.1:{open_provider.port}")
        done = invoke(*words)
        assert done.code == 0, (words, done.err)
        if "ask" in words:
            assert done.out == f"{text}\n"
            check_body(open_provider.requests[-1].body, words)
    expected = set(env.values()) or {""}
    assert {sent_key(request.headers) for request in open_provider.requests} <= expected


def with_url(call: list[str], url: str) -> list[str]:
    """Return `qa config use` with the URL of the fake provider; other calls as they are."""
    if call[:2] != ["config", "use"]:
        return call
    call = [*call]
    if "--url" in call:
        del call[call.index("--url") : call.index("--url") + 2]
    return [*call, "--url", f"{url}/v1"]


def sent_key(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")


def check_body(body: dict[str, Any], words: list[str]) -> None:
    """Check that the request has each `--option`, and the schema."""
    options = [words[index + 1] for index, word in enumerate(words) if word == "--option"]
    for name, value in parse_options(options).items():
        assert body[name] == value, (words, body)
    if "--schema" in words:
        assert "age" in json.dumps(body.get("response_format") or body["text"])
