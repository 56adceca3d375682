import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import KEY
from fake_provider import FakeProvider

import qacli
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
json.dump([code, list(sys.modules)], sys.stderr)
"""


def loaded(*arguments: str) -> set[str]:
    """Return the modules and packages that a run of `qa` has loaded when it ends."""
    return {*loaded_in_order(*arguments)}


def loaded_in_order(*arguments: str) -> list[str]:
    """Return the modules that a run of `qa` has loaded, in the order in which they were."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        timeout=120,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    assert done.stdout
    return [str(name) for name in modules]


def test_import_of_the_package_loads_nothing_else() -> None:
    program = "import sys; before = {*sys.modules}; import qacli; print({*sys.modules} - before)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys, types, typing, importlib; {program}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(qacli.__file__).parents[1],
    )
    assert done.stdout == "{'qacli'}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]], ids=" ".join)
def test_qa_version_and_help_load_nothing_heavy(arguments: list[str]) -> None:
    modules = loaded(*arguments)
    assert "typer" in modules
    assert modules & HEAVY == set()


@pytest.mark.parametrize("command", ["ask", "chat", "list", "show", "migrate", "serve"])
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    # Typer loads pydantic to read the options of a command.
    assert loaded(command, "--help") & HEAVY <= {"pydantic"}


@pytest.mark.parametrize(("command", "module"), [("ask", "ask"), ("search", "list")])
def test_command_loads_no_module_of_another_command(command: str, module: str) -> None:
    prefix = "qacli.cli.commands."
    commands = {name for name in loaded(command, "--help") if name.startswith(prefix)}
    # The exit codes in the help of `qa` are those of `qa help`.
    assert commands == {f"{prefix}{module}", f"{prefix}help"}


@pytest.fixture
def history(home: Path) -> Path:
    """The history of `qa`, with one record."""
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
def test_list_and_show_load_only_the_database_layer(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    modules = loaded(*arguments)
    assert "sqlmodel" in modules
    assert not modules & {"openai", "flask", "alembic", "httpx2", "granian"}
    assert "sqlalchemy.dialects.sqlite" in modules
    assert "sqlalchemy.dialects.postgresql" not in modules


@pytest.fixture
def _asks_fake(home: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `qa ask` ask the fake provider."""
    assert home
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.usefixtures("_asks_fake")
def test_ask_without_record_loads_only_the_provider() -> None:
    modules = loaded("ask", "--no-save", "--model", "m", "Who am I?")
    assert "openai" in modules
    assert not modules & {"sqlmodel", "sqlalchemy", "aiohttp", "flask", "alembic", "rich"}


@pytest.mark.usefixtures("_asks_fake", "history")
def test_ask_with_record_loads_the_database_layer_after_the_provider() -> None:
    modules = loaded_in_order("ask", "--model", "m", "Who am I?")
    last_of_openai = max(n for n, name in enumerate(modules) if name.startswith("openai"))
    # The request does not wait for the database layer.
    assert last_of_openai < modules.index("sqlalchemy")
    assert not {*modules} & {"aiohttp", "flask", "alembic", "rich"}
    assert "sqlalchemy.dialects.postgresql" not in modules
