import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import KEY
from fake_provider import FakeProvider

from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status

HEAVY = {
    *("openai", "sqlmodel", "sqlalchemy", "alembic", "flask", "rich", "pydantic", "httpx2"),
    "prompt_toolkit",
}

PROGRAM = """
import json, sys
from qacli.cli.app import run
try:
    code = run(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
json.dump([code, sorted(sys.modules)], sys.stderr)
"""


def loaded(*arguments: str) -> set[str]:
    """The modules and packages that a run of `qa` has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        timeout=30,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    assert done.stdout
    return set(modules)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]], ids=" ".join)
def test_the_program_itself_loads_nothing_heavy(arguments: list[str]) -> None:
    modules = loaded(*arguments)
    assert "typer" in modules
    assert modules & HEAVY == set()


@pytest.mark.parametrize("command", ["ask", "chat", "list", "show", "migrate", "serve"])
def test_the_help_of_a_command_loads_nothing_heavy_of_ours(command: str) -> None:
    # Typer itself takes pydantic to read a command's options.
    assert loaded(command, "--help") & HEAVY <= {"pydantic"}


@pytest.fixture
def history(home: Path) -> Path:
    """A history with one record, where `qa` looks for it."""
    file = home / "data" / "history.db"
    store = Store.open(f"sqlite:///{file}")
    store.upsert(
        Question(question="Who am I?", params={"model": "m"}),
        Outcome(status=Status.ANSWERED, answer="You are **here**."),
    )
    store.close()
    return file


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "last"],
        ["show", "last", "--json"],
        ["show", "1", "--field", "answer"],
        ["list"],
        ["list", "--format", "jsonl"],
        ["ask", "--reuse", "--model", "m", "Who am I?"],
    ],
    ids=" ".join,
)
def test_reading_the_history_loads_the_database_layer_alone(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    modules = loaded(*arguments)
    assert "sqlmodel" in modules
    assert not modules & {"openai", "flask", "alembic", "httpx2", "granian"}
    assert "sqlalchemy.dialects.sqlite" in modules
    assert "sqlalchemy.dialects.postgresql" not in modules


@pytest.mark.skipif(sys.platform != "linux", reason="the database layer is loaded here")
def test_asking_loads_what_asks_alone(
    home: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    modules = loaded("ask", "--model", "m", "Who am I?")
    assert "openai" in modules
    assert not modules & {"sqlmodel", "sqlalchemy", "aiohttp", "flask", "alembic", "rich"}
