from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Invoke, Program, write_env_file
from person import ENTER, Person

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SECRET = "hunter2-is-no-secret-0123"
BACKEND = """
import json, pathlib
import keyring.backend

FILE = pathlib.Path(__file__).with_name("kept.json")

class Keyring(keyring.backend.KeyringBackend):
    priority = 1

    def _all(self):
        return json.loads(FILE.read_text()) if FILE.exists() else {}

    def get_password(self, service, username):
        return self._all().get(f"{service}/{username}")

    def set_password(self, service, username, password):
        FILE.write_text(json.dumps({**self._all(), f"{service}/{username}": password}))

    def delete_password(self, service, username):
        kept = self._all()
        del kept[f"{service}/{username}"]
        FILE.write_text(json.dumps(kept))
"""


@pytest.fixture
def bare(invoke: Invoke) -> Invoke:
    """`qa` without a key, an endpoint, a model or retries in its environment."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "QA_MODEL", "QA_RETRIES"):
        invoke.env[name] = ""
    return invoke


@pytest.fixture
def bare_process(bare: Invoke) -> Program:
    """`bare` as a process."""
    return Program(bare.env)


@pytest.fixture
def config(home: Path) -> Path:
    return home / "config.toml"


@pytest.fixture
def kept(home: Path, bare: Invoke) -> Callable[[], dict[str, str]]:
    """Let `qa` use a keyring in a file; return a function that reads all its keys."""
    directory = home / "backend"
    directory.mkdir()
    (directory / "filed.py").write_text(BACKEND)
    bare.env |= {"PYTHONPATH": str(directory), "PYTHON_KEYRING_BACKEND": "filed.Keyring"}

    def read() -> dict[str, str]:
        file = directory / "kept.json"
        return json.loads(file.read_text()) if file.exists() else {}  # type: ignore[no-any-return]

    return read


def settings(qa: Invoke, *arguments: str, **env: str) -> dict[str, Any]:
    done = qa(*arguments, "config", "--json", **env)
    assert (done.code, done.err) == (0, "")
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_config_shows_every_setting_with_its_source(bare: Invoke, config: Path) -> None:
    config.write_text("model = 'm'\n[profiles.work]\nretries = 7\n")
    found = settings(bare, "--profile", "work", QA_SYSTEM="Be\nbrief.")
    assert found["model"] == {"value": "m", "source": f"model in {config}", "env": "QA_MODEL"}
    assert found["retries"]["value"] == 7
    assert found["retries"]["source"] == f"retries of profile work in {config}"
    assert found["system"]["source"] == "the environment variable QA_SYSTEM"
    assert found["timeout"] == {"value": 600.0, "source": None, "env": "QA_TIMEOUT"}
    for arguments in (["config"], ["config", "show"]):
        done = bare("--profile", "work", *arguments, QA_SYSTEM="Be\nbrief.")
        assert (done.code, done.err) == (0, "")
        lines = {line.split()[0]: line for line in done.out.splitlines()}
        assert lines.keys() == found.keys()
        assert lines["model"].endswith(f"model in {config}")
        assert "Be brief." in lines["system"]
        assert lines["timeout"].split()[1:] == ["600", "the", "default"]
    assert (
        json.loads(bare("--profile", "work", "config", "show", "--json").out).keys() == found.keys()
    )


def test_config_masks_secrets(bare: Invoke, config: Path) -> None:
    config.write_text(f"key_command = 'echo sk-{SECRET}'\nbase_url = 'https://u:{SECRET}@h/v1'\n")
    env = {
        "QA_TOKEN": "short",
        "OPENAI_API_KEY": SECRET,
        "DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
    }
    for text in (bare("config", **env).out, bare("config", "--json", **env).out):
        assert SECRET[:-4] not in text
        assert "short" not in text
        assert f"…{SECRET[-4:]}" in text
        assert "postgresql://u:***@h/d" in text
        assert "https://u:***@h/v1" in text
    assert SECRET not in bare("config").out


def test_config_set_writes_and_unset_removes_a_setting(bare: Invoke, config: Path) -> None:
    assert bare("config", "path").out == f"{config}\n"
    config.write_text("# mine\ntimeout = 3 # short\n")
    assert bare("config", "set", "model", "gpt-6-luna").code == 0
    assert config.read_text() == '# mine\ntimeout = 3 # short\nmodel = "gpt-6-luna"\n'
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert settings(bare)["model"]["value"] == "gpt-6-luna"
    assert bare("config", "unset", "timeout").code == 0
    assert config.read_text() == '# mine\nmodel = "gpt-6-luna"\n'
    assert bare("config", "unset", "timeout").code == 0


def test_config_set_in_a_new_profile_creates_it(bare: Invoke, config: Path) -> None:
    assert bare("--profile", "work", "list").code == 3
    assert bare("--profile", "work", "config", "set", "retries", "3").code == 0
    assert bare("config", "set", "timeout", "30", QA_PROFILE="work").code == 0
    assert config.read_text() == "[profiles.work]\nretries = 3\ntimeout = 30\n"
    assert bare("config", "set", "profile", "work").code == 0
    assert settings(bare)["retries"]["value"] == 3
    error = bare("--profile", "home", "list")
    assert (error.code, error.out) == (3, "")
    assert "'home'" in error.err
    assert "Its profiles are work." in error.err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("retries", "-1", "Invalid value '-1' for retries: it is not a whole number, 0 or more."),
        ("timeout", "soon", "a number of seconds"),
        ("modle", "x", "Did you mean model?"),
        ("model", "", "qa config unset model"),
        ("profile", "x", "There is no profile 'x'"),
        ("keyring", "x", "service/user"),
        ("api_key", "x", "qa config key set"),
        ("api_key", "x", "key_command"),
        ("token", "x", "QA_TOKEN"),
        ("database_url", "postgresql://u:pw@h/d", "DATABASE_URL"),
        ("base_url", "https://u:pw@h/v1", "without the key or the password"),
        ("key_command", f"echo sk-{SECRET}", "qa config key set"),
    ],
)
def test_config_set_invalid_exits_2_and_writes_nothing(
    bare: Invoke, config: Path, name: str, value: str, said: str
) -> None:
    done = bare("config", "set", name, value)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert SECRET not in done.err
    assert not config.exists()


def test_config_set_and_unset_repair_an_invalid_file(bare: Invoke, config: Path) -> None:
    config.write_text("modell = 'x'\nretries = 'x'\n")
    assert bare("config").code == 3
    assert bare("config", "unset", "modell").code == 0
    assert "line 1" in bare("config").err
    assert bare("config", "set", "retries", "2").code == 0
    assert bare("config").code == 0


def test_config_set_of_an_overridden_setting_warns(bare: Invoke, config: Path) -> None:
    done = bare("config", "set", "model", "m", QA_MODEL="other")
    assert done.code == 0
    assert "model is overridden by the environment variable QA_MODEL" in done.err
    config.write_text("profile = 'work'\n[profiles.work]\nmodel = 'w'\n")
    assert "model of profile work" in bare("config", "set", "model", "m").err
    assert bare("--profile", "work", "config", "set", "model", "m").err == ""
    done = bare("config", "set", "key_command", "pass show openai", OPENAI_API_KEY="sk-test")
    used = "overridden by the environment variable OPENAI_API_KEY."
    assert done.err == f"key_command is not used: {used}\n"


def test_config_of_a_chosen_profile_names_the_option(bare: Invoke, config: Path) -> None:
    config.write_text("[profiles.work]\nmodel = 'w'\n")
    shown = json.loads(bare("--profile", "work", "config", "--json").out)["profile"]
    assert shown["source"] == "--profile or the environment variable QA_PROFILE"


def test_key_command_runs_only_for_a_question(
    bare_process: Program, provider: Any, home: Path
) -> None:
    script = home / "give"
    script.write_text(f"#!/bin/sh\necho x >> {home}/runs\necho {provider.api_key}\n")
    script.chmod(0o700)
    bare_process.env["OPENAI_BASE_URL"] = provider.base_url
    assert bare_process("config", "set", "key_command", str(script)).code == 0
    for arguments in (["list"], ["config"], ["migrate", "status"], ["--help"]):
        assert bare_process(*arguments).code == 0
    assert bare_process("ask", "a", OPENAI_API_KEY=provider.api_key).code == 0
    assert not (home / "runs").exists()
    done = bare_process("ask", "Who am I?")
    assert (done.code, done.out) == (0, "Answer to: Who am I?\n")
    assert (home / "runs").read_text() == "x\n"
    script.write_text(f"#!/bin/sh\necho {SECRET}\nexit 1\n")
    done = bare_process("ask", "Who am I?")
    assert (done.code, done.out) == (3, "")
    assert f"The key command {script} failed" in done.err
    assert SECRET not in done.err


def test_config_trust_of_dotenv_with_key_command_exits_3(bare: Invoke, home: Path) -> None:
    (home / ".env").write_text(f"QA_KEY_COMMAND=touch {home}/made\n")
    done = bare("config", "trust", "--yes")
    assert (done.code, done.out) == (3, "")
    assert ".env, line 1, is not allowed" in done.err
    bare("ask", "Who am I?", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert not (home / "made").exists()
    write_env_file(f"QA_KEY_COMMAND=touch {home}/made\n", home)
    done = bare("ask", "Who am I?")
    assert done.code == 3
    assert ".env, line 1, is not allowed" in done.err
    assert not (home / "made").exists()


def test_config_key_set_stores_the_key_of_its_endpoint(
    bare_process: Program, provider: Any, config: Path, kept: Callable[[], dict[str, str]]
) -> None:
    config.write_text(f"[profiles.fake]\nbase_url = '{provider.base_url}'\n")
    entry = f"qa/{provider.base_url.split('/')[2]}"
    done = bare_process("--profile", "fake", "config", "key", "set", input=f"{provider.api_key}\n")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert kept() == {entry: provider.api_key}
    assert config.read_text().endswith("keyring = true\n")
    assert (
        provider.api_key not in config.read_text() + bare_process("--profile", "fake", "config").out
    )
    assert bare_process("--profile", "fake", "ask", "a").out == "Answer to: a\n"
    # Each endpoint has its own entry: this key is not sent to another one.
    done = bare_process("ask", "a", QA_KEYRING="true", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert done.code == 3
    assert "for qa/127.0.0.1:9" in done.err
    assert bare_process("--profile", "fake", "config", "key", "unset").code == 0
    assert kept() == {}
    assert bare_process("--profile", "fake", "config", "key", "unset").code == 0
    assert bare_process("--profile", "fake", "ask", "a").code == 3


def test_keyring_entry_of_another_program_is_used(
    bare_process: Program, provider: Any, kept: Callable[[], dict[str, str]]
) -> None:
    bare_process.env["OPENAI_BASE_URL"] = provider.base_url
    assert bare_process("config", "set", "keyring", "openai/me").code == 0
    assert bare_process("config", "key", "set", input=provider.api_key).code == 0
    assert kept() == {"openai/me": provider.api_key}
    assert bare_process("ask", "a").out == "Answer to: a\n"


@pytest.mark.parametrize("text", ["", "\n", f"my key {SECRET}\n", "sk-ä\n"])
def test_config_key_set_invalid_key_exits_2_and_stores_nothing(
    bare_process: Program, config: Path, kept: Callable[[], dict[str, str]], text: str
) -> None:
    done = bare_process("config", "key", "set", input=text)
    assert (done.code, done.out) == (2, "")
    assert SECRET not in done.err
    assert kept() == {}
    assert not config.exists()


def test_config_key_set_without_a_keyring_exits_3(bare: Invoke) -> None:
    done = bare(
        "config", "key", "set", input=SECRET, PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring"
    )
    assert (done.code, done.out) == (3, "")
    assert "NoKeyringError" in done.err
    assert SECRET not in done.err


def test_config_key_set_on_a_terminal_hides_the_typed_key(
    qa: Program,
    bare: Invoke,
    kept: Callable[[], dict[str, str]],
    at_terminal: Callable[..., Person],
) -> None:
    qa.env = bare.env
    person = at_terminal("config", "key", "set")
    person.see("Key for api.openai.com: ")
    person.type(f"{SECRET}{ENTER}")
    assert person.end() == 0
    assert SECRET not in person.output
    assert kept() == {"qa/api.openai.com": SECRET}


def test_config_help_of_each_command_works(bare: Invoke) -> None:
    done = bare("config", "--help", COLUMNS="100")
    assert done.code == 0
    assert "qa config set model gpt-6-luna" in done.out
    for name in ("show", "path", "set", "unset", "key"):
        assert bare("config", name, "--help").code == 0


def test_config_on_a_terminal_shows_whole_words_and_all_text(
    bare: Invoke, console: Callable[..., Any]
) -> None:
    words = console(bare, "config", QA_CONTEXT_TOKENS="9000").screen.split()
    lines = console(bare, "config", columns=60, QA_CONTEXT_TOKENS="9000").screen.splitlines()
    of_tokens = next(n for n, line in enumerate(lines) if line.startswith("context_tokens"))
    assert lines[of_tokens].split() == ["context_tokens", "9000"]
    assert lines[of_tokens + 1].strip() == "the environment variable QA_CONTEXT_TOKENS"
    assert " ".join(lines).split() == words
