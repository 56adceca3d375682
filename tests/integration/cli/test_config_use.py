"""`qa config use`: a profile for a known provider."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.errors
import pytest
from conftest import KEY, Invoke
from fake_provider import FakeProvider
from fake_provider import Reply as Faked

from qacli.cli.commands import config_use
from qacli.config import credentials
from qacli.config.providers import known_providers
from qacli.config.settings import Settings

GROQ_KEY = "gsk-0123456789abcdefgh"


@pytest.fixture
def database_url(home: Path) -> str:
    return f"sqlite:///{home / 'history.db'}"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@pytest.fixture
def ring(provider: FakeProvider) -> Iterator[MemoryKeyring]:
    before, memory = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(memory)
    yield memory
    # Also delete the copy in the memory of this process.
    credentials.delete_key(Settings(base_url=provider.base_url))
    keyring.set_keyring(before)


@pytest.fixture
def bare(invoke: Invoke) -> Invoke:
    """`qa` without a configuration."""
    invoke.env.update(OPENAI_API_KEY="", OPENAI_BASE_URL="", QA_MODEL="")
    return invoke


@pytest.fixture
def tables(home: Path) -> Callable[[], dict[str, Any]]:
    return lambda: tomllib.loads((home / "config.toml").read_text())


@pytest.mark.parametrize(
    "name", [name for name, item in known_providers().items() if item.base_url and item.model]
)
def test_config_use_writes_the_profile_of_each_provider(
    bare: Invoke, tables: Callable[[], dict[str, Any]], name: str
) -> None:
    known = known_providers()[name]
    done = bare("config", "use", name, "--no-check", **{str(known.key): GROQ_KEY})
    assert done.code == 0, done.err
    expected = {"base_url": known.base_url, "key_variable": known.key, "model": known.model}
    assert tables() == {"profile": name, "profiles": {name: expected}}
    assert GROQ_KEY not in done.err
    words = ("config", "use", name, "--no-check", "--default")
    shown = bare(*words, terminal=True, **{str(known.key): GROQ_KEY}).err
    assert "It is used where no profile is chosen." in shown


def test_config_use_tries_the_profile_with_one_question(
    bare: Invoke, provider: FakeProvider
) -> None:
    provider.api_key = GROQ_KEY
    try:
        words = ("config", "use", "groq", "--url", provider.base_url, "-m", "m")
        done = bare(*words, GROQ_API_KEY=GROQ_KEY, OPENAI_API_KEY=KEY)
        # The environment has the key of another provider, which is not sent.
        asked = bare("ask", "Who?", GROQ_API_KEY=GROQ_KEY, OPENAI_API_KEY=KEY, QA_PROFILE="groq")
    finally:
        provider.api_key = KEY
    assert (done.code, asked.code) == (0, 0), done.err + asked.err
    assert [request.key for request in provider.requests] == [GROQ_KEY, GROQ_KEY]
    assert bare("list", "--json").out.count('"id"') == 1


def test_config_use_local_server_takes_its_first_model(
    bare: Invoke, provider: FakeProvider, tables: Callable[[], dict[str, Any]]
) -> None:
    provider.api_key = None
    try:
        done = bare("config", "use", "ollama", "--url", f"http://127.0.0.1:{provider.port}")
    finally:
        provider.api_key = KEY
    assert done.code == 0, done.err
    assert tables()["profiles"]["ollama"]["model"] == "fake-large"


def test_config_use_keeps_other_settings_and_the_default_profile(
    bare: Invoke, home: Path, tables: Callable[[], dict[str, Any]]
) -> None:
    text = '# mine\nmodel = "m"\n[profiles.groq]\nmodel = "old"\nsystem = "S"\n'
    (home / "config.toml").write_text(text)
    done = bare("config", "use", "groq", "--no-check", GROQ_API_KEY=GROQ_KEY)
    assert done.code == 0, done.err
    words = ("config", "use", "groq", "--no-check")
    assert "qa --profile groq" in bare(*words, terminal=True, GROQ_API_KEY=GROQ_KEY).err
    assert "profile" not in tables()
    assert tables()["profiles"]["groq"]["system"] == "S"
    assert (home / "config.toml").read_text().startswith("# mine\n")
    assert bare("config", "use", "groq", "--no-check", "--default", GROQ_API_KEY=GROQ_KEY).code == 0
    assert tables()["profile"] == "groq"


def test_config_use_azure_adds_the_path_of_its_api(
    bare: Invoke, tables: Callable[[], dict[str, Any]]
) -> None:
    words = ("config", "use", "azure", "--no-check", "--model", "mine")
    missing = bare(*words)
    assert (missing.code, "--url" in missing.err) == (2, True)
    assert bare(*words, "--url", "https://r.openai.azure.com/").code == 0
    assert tables()["profiles"]["azure"] == {
        "base_url": "https://r.openai.azure.com/openai/v1",
        "key_variable": "AZURE_OPENAI_API_KEY",
        "model": "mine",
    }


def test_config_use_prompts_for_a_key_and_saves_it_in_the_keyring(
    bare: Invoke,
    provider: FakeProvider,
    ring: MemoryKeyring,
    monkeypatch: pytest.MonkeyPatch,
    tables: Callable[[], dict[str, Any]],
) -> None:
    monkeypatch.setattr(config_use.typer, "prompt", lambda *_args, **_options: f" {KEY} ")
    done = bare("config", "use", "groq", "--url", provider.base_url, terminal=True)
    assert done.code == 0, done.err
    assert list(ring.entries.values()) == [KEY]
    assert tables()["profiles"]["groq"]["keyring"] is True
    assert provider.requests[-1].key == KEY
    assert KEY not in done.err + done.out


def test_config_use_without_a_keyring_saves_the_key_in_a_private_file(
    bare: Invoke, provider: FakeProvider, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "set_password", _no_keyring)
    monkeypatch.setattr(config_use.typer, "prompt", lambda *_args, **_options: KEY)
    done = bare("config", "use", "groq", "--url", provider.base_url, terminal=True)
    assert done.code == 0, done.err
    path = home / "keys" / "groq"
    assert (path.read_text(), path.stat().st_mode & 0o777) == (f"{KEY}\n", 0o600)
    assert str(path) in done.err
    assert KEY not in done.err + done.out + (home / "config.toml").read_text()
    assert bare("ask", "Who?").code == 0
    assert [request.key for request in provider.requests] == [KEY, KEY]


def _no_keyring(*_arguments: str) -> None:
    raise keyring.errors.NoKeyringError


def test_config_use_without_a_key_names_the_variable(bare: Invoke) -> None:
    done = bare("config", "use", "groq", OPENAI_API_KEY=KEY)
    assert (done.code, "GROQ_API_KEY" in done.err) == (3, True), done.err


def test_config_use_refused_by_the_provider_prints_its_error(
    bare: Invoke, provider: FakeProvider
) -> None:
    provider.default = Faked(status=404)
    done = bare("config", "use", "groq", "--url", provider.base_url, GROQ_API_KEY=KEY)
    assert done.code == 5, done.err


def test_config_use_alone_lists_the_providers(bare: Invoke) -> None:
    done = bare("config", "use")
    assert [line.split()[0] for line in done.out.splitlines()] == list(known_providers())
    wrong = bare("config", "use", "grok")
    assert (wrong.code, "groq" in wrong.err) == (2, True)


def test_config_use_key_variable_is_not_sent_to_other_endpoint(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "config.toml").write_text('key_variable = "OTHER"\nbase_url = "http://h/v1"\n')
    done = invoke("ask", "Who?", OTHER="sk-other-0123456")
    assert (done.code, provider.requests[-1].key) == (0, KEY), done.err
