"""The upstreams of the server: their endpoints, keys and rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qacli.config import credentials
from qacli.config.loader import load_settings
from qacli.config.upstreams import OWN, Target, Upstreams, load_upstreams
from qacli.errors import InvalidRequest, NotConfigured

if TYPE_CHECKING:
    from qacli.config.settings import Settings

OWN_KEY, GROQ_KEY, WORK_KEY = "sk-own-0123456789", "gsk-groq-0123456789", "sk-work-0123456789"
ENVIRON = {
    "OPENAI_API_KEY": OWN_KEY,
    "GROQ_API_KEY": GROQ_KEY,
    "WORK_KEY": WORK_KEY,
    "QA_UPSTREAMS": "groq, work, local",
}
WORK = """
[profiles.work]
base_url = "https://llm.example.com/v1"
key_variable = "WORK_KEY"
model = "large"
api = "chat"
headers = { X-Team = "blue" }
"""
RULES = """
[routes]
"llama-*" = "groq"
"*-local" = "local"
fast = "work/small"
[fallbacks]
"work/large*" = ["groq/big", "default/gpt", "local"]
work = ["groq"]
"""


def load(config: str = WORK, **environ: str) -> Upstreams:
    file = Path("config.toml").absolute()
    file.write_text(config)
    variables = {"QA_CONFIG": str(file), **ENVIRON, **environ}
    return load_upstreams(load_settings(variables), variables)


def key_of(settings: Settings) -> str:
    return credentials.get_api_key(settings)


def test_load_upstreams_without_any_has_the_own_provider_only() -> None:
    upstreams = load("", QA_UPSTREAMS="")
    assert (upstreams.names, upstreams.has_own) == ([], True)
    assert upstreams.route("groq/m") == (Target(OWN, "groq/m"),)


def test_load_upstreams_takes_each_key_and_url_from_its_own_profile() -> None:
    environ = {
        "OPENAI_BASE_URL": "https://own.example/v1",
        "QA_MODEL": "own",
        "QA_API": "responses",
    }
    config = 'headers = { X-Own = "1" }\nextra_body = { own = 1 }\n' + WORK
    upstreams = load(config, **environ, QA_KEY_COMMAND="printf own-command")
    groq, work, local = (upstreams.settings[name] for name in ("groq", "work", "local"))
    assert (groq.base_url, key_of(groq)) == ("https://api.groq.com/openai/v1", GROQ_KEY)
    assert (work.base_url, key_of(work)) == ("https://llm.example.com/v1", WORK_KEY)
    assert (work.model, work.api, dict(work.headers)) == ("large", "chat", {"X-Team": "blue"})
    assert (groq.api, dict(groq.headers), dict(groq.extra_body)) == ("auto", {}, {})
    assert (local.model, local.base_url, key_of(local)) == ("local", None, "")
    for settings in (groq, work, local):
        assert settings.key_command is None
        assert OWN_KEY not in repr(settings)
    assert upstreams.settings[OWN].base_url == "https://own.example/v1"


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("groq/a/b", [Target("groq", "a/b")]),
        ("groq", [Target("groq", "")]),
        ("local", [Target("local", "")]),
        ("llama-3", [Target("groq", "llama-3")]),
        ("x-local", [Target("local", "")]),
        ("gpt-9", [Target(OWN, "gpt-9")]),
        ("fast", [Target("work", "small"), Target("groq", "small")]),
        (
            "work/large-2",
            [
                Target("work", "large-2"),
                Target("groq", "big"),
                Target(OWN, "gpt"),
                Target("local", ""),
            ],
        ),
        ("work", [Target("work", ""), Target("groq", "")]),
    ],
)
def test_route_of_a_name_returns_the_upstream_and_its_fallbacks(
    name: str, targets: list[Target]
) -> None:
    assert list(load(WORK + RULES).route(name)) == targets


def test_route_by_rules_of_the_environment_replaces_those_of_the_file() -> None:
    rules = {"QA_ROUTES": "m-*=work/large", "QA_FALLBACKS": "work/l*=groq local,groq=work"}
    upstreams = load(WORK + RULES, **rules)
    targets = [Target("work", "large"), Target("groq", "large"), Target("local", "")]
    assert list(upstreams.route("m-1")) == targets
    assert list(upstreams.route("groq/a")) == [Target("groq", "a"), Target("work", "a")]
    in_file = 'routes = "m-*=work/large"\nfallbacks = "work=local"\n'
    assert list(load(in_file + WORK).route("m-1")) == [targets[0], targets[2]]


@pytest.mark.parametrize("name", ["local/other", "bare", "gpt-9"])
def test_route_of_a_name_of_no_upstream_is_refused(name: str) -> None:
    config = '[profiles.bare]\nbase_url = "http://localhost:1/v1"\n'
    upstreams = load(config, QA_UPSTREAMS="bare,local", OPENAI_API_KEY="")
    with pytest.raises(InvalidRequest):
        upstreams.route(name)


@pytest.mark.parametrize(
    ("environ", "default"),
    [
        ({}, "groq/openai/gpt-oss-120b"),
        ({"QA_UPSTREAMS": "local,groq"}, "local"),
        ({"QA_MODEL": "work/small"}, "work/small"),
    ],
)
def test_default_name_without_an_own_provider_is_of_an_upstream(
    environ: dict[str, str], default: str
) -> None:
    upstreams = load(**{"OPENAI_API_KEY": "", **environ})
    assert not upstreams.has_own
    assert upstreams.default_name() == default


@pytest.mark.parametrize(
    ("config", "environ", "message"),
    [
        (WORK, {"QA_UPSTREAMS": "wrok"}, "neither a profile"),
        (WORK, {"QA_UPSTREAMS": "default"}, "cannot be the name"),
        (WORK, {"QA_UPSTREAMS": "a/b"}, "cannot be the name"),
        (WORK, {"GROQ_API_KEY": ""}, "GROQ_API_KEY, which is not set"),
        (WORK, {"WORK_KEY": ""}, "WORK_KEY, which is not set"),
        (WORK, {"QA_UPSTREAMS": "azure"}, "azure has no base_url"),
        ("[profiles.work]\nmodel = 'm'\n", {"OPENAI_BASE_URL": "https://o.example"}, "no base_url"),
        (WORK, {"QA_UPSTREAMS": "openai", "OPENAI_BASE_URL": "https://o.example/v1"}, "cannot use"),
        (WORK + '[routes]\n"a*" = "wrok"\n', {}, "line 9 of .*names no upstream: wrok"),
        (WORK + '[fallbacks]\nwork = ["wrok/m"]\n', {}, "names no upstream: wrok/m"),
        (WORK, {"QA_ROUTES": "a*=wrok"}, r"variable QA_ROUTES: a\* names no upstream: wrok"),
        (WORK, {"QA_FALLBACKS": "work=groq b"}, "variable QA_FALLBACKS: work names no upstream: b"),
        (WORK, {"QA_FALLBACKS": "work"}, "QA_FALLBACKS: 'work' is not a list such as"),
        (WORK, {"QA_ROUTES": "a=b,a=c"}, "QA_ROUTES: 'a=b,a=c' is not a list such as"),
        (WORK + '[fallbacks]\nwrok = ["work"]\n', {}, "is for no upstream"),
        (
            WORK + '[fallbacks]\nwork = ["default"]\n',
            {"OPENAI_API_KEY": ""},
            "no upstream: default",
        ),
        (RULES, {"QA_UPSTREAMS": ""}, "need upstreams"),
        (WORK, {"OPENAI_API_KEY": "", "QA_MODEL": "gpt-9"}, "for the model gpt-9"),
    ],
)
def test_load_upstreams_that_cannot_be_used_is_refused(
    config: str, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(NotConfigured, match=message) as caught:
        load(config, **environ)
    assert caught.value.todo
    assert OWN_KEY not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        "[routes]\na = 1\n",
        '[routes]\na = ""\n',
        'routes = "a"\n',
        '[fallbacks]\na = "b"\n',
        "[fallbacks]\na = [1]\n",
        '[profiles.a.routes]\nb = "c"\n',
    ],
)
def test_load_settings_with_a_wrong_rule_names_its_line(table: str) -> None:
    file = Path("config.toml").absolute()
    file.write_text(table)
    with pytest.raises(NotConfigured, match=r"[Ll]ine \d\b"):
        load_settings({"QA_CONFIG": str(file)})
