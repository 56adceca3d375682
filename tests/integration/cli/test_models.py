"""`qa models`, the completion of `--model`, and the error for a model that is not served."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY, Invoke

from qacli.cli.ask_runner import start_endpoint
from qacli.cli.console import Console
from qacli.cli.model_names import refresh_models
from qacli.config.defaults import DEFAULT_MODEL
from qacli.config.settings import Settings
from qacli.provider.model_cache import ModelListCache

from .conftest import Screen, on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program
    from fake_provider import FakeProvider

MISSING = (
    "[[status=404 code=model_not_found message='The model fake-larg does not exist or you do not "
    "have access to it.']]"
)


@pytest.fixture
def database_url(home: Path) -> str:
    """One database: nothing here depends on its kind."""
    return f"sqlite:///{home / 'data' / 'history.db'}"


@pytest.fixture
def listed(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """The provider, with a list like those of OpenAI and OpenRouter."""
    monkeypatch.setattr(provider, "models", ("fake-small", "gpt-6-luna", "fake-large"))
    fields = {
        "fake-large": {
            "context_length": 8192,
            "pricing": {"prompt": "0.000002", "completion": "0.00001"},
        },
        "fake-small": {"shutdown_date": "2027-01-14"},
    }
    monkeypatch.setattr(provider, "model_fields", fields)
    return provider


@pytest.mark.usefixtures("listed")
def test_models_prints_a_table(invoke: Invoke) -> None:
    done = invoke("models")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "fake-large\t8,192\t2\t10",
        "fake-small\t\t\t\t2027-01-14",
        "gpt-6-luna\t\t0.1\t0.5",
    ]
    screen = on_terminal(invoke, "models", "FAKE").screen.splitlines()
    assert screen[0].split() == ["MODEL", "CONTEXT", "INPUT", "OUTPUT", "SHUTDOWN"]
    assert [line.split()[0] for line in screen[1:]] == ["fake-large", "fake-small"]


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("columns", "text", "header"),
    [
        (40, "", ["MODEL", "CONTEXT", "INPUT", "OUTPUT"]),
        (20, "", ["MODEL", "CONTEXT"]),
        (80, "luna", ["MODEL", "INPUT", "OUTPUT"]),
        (8, "luna", ["MODEL"]),
    ],
)
def test_models_table_has_the_columns_that_fit_and_are_known(
    invoke: Invoke, columns: int, text: str, header: list[str]
) -> None:
    lines = on_terminal(invoke, "models", text, columns=columns).screen.splitlines()
    assert lines[0].split() == header
    assert max(map(len, lines)) <= max(columns, len("gpt-6-luna"))


@pytest.mark.usefixtures("listed")
def test_models_json_has_null_for_unknown_values(invoke: Invoke) -> None:
    rows: list[dict[str, Any]] = json.loads(invoke("models", "--json").out)
    assert rows[1] == {
        "id": "fake-small",
        "context_length": None,
        "input_usd": None,
        "cached_usd": None,
        "output_usd": None,
        "shutdown_date": "2027-01-14",
    }
    assert json.loads(invoke("models", "--json", "nothing-like-it").out) == []


def test_models_of_a_failing_endpoint_prints_its_error(
    invoke: Invoke, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("models", OPENAI_API_KEY="sk-wrong-0123456789abcdef").code == 3
    assert invoke("models", OPENAI_BASE_URL="http://127.0.0.1:1/v1").code == 6
    monkeypatch.setattr(provider, "models_reply", "status=404")
    assert invoke("models").code == 5


def test_models_of_a_slow_endpoint_shows_a_moving_line(
    invoke: Invoke, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "models_reply", "latency=0.5")
    seen = on_terminal(invoke, "models")
    assert seen.code == 0
    name = provider.base_url.removeprefix("http://").removesuffix("/v1")
    assert f"models of {name} 0 s" in seen.err
    assert Screen(seen.rows).show(seen.err).strip() == ""
    assert invoke("models", TERM="xterm").err == ""


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_models_of_a_silent_endpoint_ends_with_a_sentence(
    invoke: Invoke, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> None:
    monkeypatch.setattr(provider, "models_reply", "hang")
    monkeypatch.setattr("qacli.provider.client.MODEL_LIST_TIMEOUT", 0.3)
    done = invoke("models", terminal=terminal, COLUMNS="200")
    assert (done.code, done.out) == (6, "")
    assert "did not come within 0.3 s. Try again later." in done.err


def test_models_of_an_endpoint_without_a_list_names_no_model(
    invoke: Invoke, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "models_reply", "status=404")
    done = invoke("models")
    assert done.code == 5
    assert "It may have no list of models" in done.err
    assert "test-model" not in done.err


def test_models_without_a_match_on_a_terminal_reports_it(invoke: Invoke) -> None:
    done = invoke("models", "zzz", terminal=True)
    assert (done.code, done.out) == (0, "")
    assert "no such model" in done.err


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_model_not_served_is_an_error_with_the_nearest_names(
    invoke: Invoke, provider: FakeProvider, command: str
) -> None:
    arguments = [command, "-m", "fake-larg", *([MISSING] if command == "ask" else [])]
    text = "" if command == "ask" else MISSING
    # There is no list yet, and a script does not wait for one.
    done = invoke(*arguments, input=text)
    assert done.code == 5
    assert "does not exist" in done.err
    assert "`qa models` lists all" in done.err
    assert [request.path for request in provider.requests] == ["/v1/chat/completions"]
    if command == "ask":
        seen = invoke(*arguments, terminal=True)
        assert seen.code == 5
        assert "The nearest that it serves: fake-large" in seen.err
        assert provider.requests[-1].path == "/v1/models"
    else:
        assert invoke("models").code == 0
    # Now the list is on disk, and a script has the names too.
    before = len(provider.requests)
    assert "The nearest that it serves: fake-large" in invoke(*arguments, input=text).err
    assert len(provider.requests) == before + 1
    record = json.loads(invoke("show", "last", "--json").out)
    assert record["error_kind"] == "model-not-found"


def test_suggestions_unreadable_keep_the_error(
    invoke: Invoke, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "models_reply", "status=500")
    done = invoke("ask", "-m", "fake-larg", MISSING, terminal=True)
    assert done.code == 5
    assert "does not exist" in done.err


@pytest.mark.parametrize(
    ("model", "quiet", "warning"),
    [
        ("gpt-4.1-nano", False, "The model gpt-4.1-nano was to be shut down on 2026-10-23. "),
        ("gpt-4.1-nano", True, ""),
        (DEFAULT_MODEL, False, ""),
    ],
)
def test_ask_model_with_a_shutdown_date_warns(model: str, warning: str, *, quiet: bool) -> None:
    err = StringIO()
    console = Console(None, StringIO(), err, quiet=quiet)
    settings = Settings(api_key=KEY, base_url="https://api.openai.com/v1")
    with ExitStack() as stack:
        assert start_endpoint(settings, model, console, stack).model == model
    text = err.getvalue()
    assert text.startswith(warning)
    assert bool(text) == bool(warning)


def refresh(home: Path, provider: FakeProvider) -> list[str]:
    """Read the list for the completion, and return the names in the copy."""
    refresh_models()
    return ModelListCache(home / "data").get(provider.base_url)[0]


def test_refresh_models_asks_the_endpoint_once(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    for _ in range(3):
        assert refresh(home, provider) == ["fake-large", "fake-small"]
    assert len(provider.requests) == 1


def test_refresh_models_never_runs_the_command_for_the_key(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("QA_KEY_COMMAND", f"touch {home}/ran")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    assert refresh(home, provider) == []
    assert not (home / "ran").exists()
    assert provider.requests == []


def test_refresh_models_of_a_hanging_endpoint_ends_without_names(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setattr("qacli.cli.model_names.COMPLETION_SECONDS", 0.1)
    monkeypatch.setattr(provider, "models_reply", "hang")
    assert refresh(home, provider) == []


def test_refresh_models_after_an_error_does_not_ask_again_at_once(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setattr(provider, "models_reply", "status=500")
    assert refresh(home, provider) == []
    assert refresh(home, provider) == []
    assert len(provider.requests) == 1


def test_refresh_models_while_another_process_reads_the_list_asks_nothing(
    qa: Program,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., Any],
) -> None:
    monkeypatch.setattr(provider, "models_reply", "hang")
    command = [sys.executable, "-m", "qacli.cli.model_names"]
    first = subprocess.Popen(command, env=qa.environ())
    try:
        wait_for(lambda: provider.requests)
        subprocess.run(command, env=qa.environ(), check=True)
        assert first.poll() is None
        assert len(provider.requests) == 1
    finally:
        first.kill()
        first.wait()


@pytest.mark.usefixtures("home")
def test_refresh_models_with_wrong_settings_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QA_TIMEOUT", "never")
    refresh_models()


def test_completion_of_models_reads_the_list_for_the_next_one(
    qa: Program, provider: FakeProvider, wait_for: Callable[..., Any]
) -> None:
    def complete() -> list[str]:
        line = "qa ask --model fake-l"
        done = qa(_QA_COMPLETE="complete_bash", _QA_COMPLETE_LINE=line)
        assert (done.code, done.err) == (0, "")
        return done.out.split()

    assert complete() == []
    wait_for(lambda: complete() == ["fake-large"])
    assert provider.requests
