"""No command prints control characters from files, providers or the history to a terminal."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Invoke, command_environment
from fake_provider import Reply

from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.sanitize import UNSAFE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from databases import SqliteTemplate
    from fake_provider import FakeProvider

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

EVIL = "\x1b]0;t\x07\x1b[31mred\x9b2J\x7f\u202egpj\u2066\u200f\u061c\u200b\ufeff\x08"
OURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
"""The escape sequences of the live display and of styles, which conftest.py knows."""


@pytest.fixture(scope="module")
def hostile_files(
    tmp_path_factory: pytest.TempPathFactory,
    _provider: FakeProvider,
    sqlite_template: SqliteTemplate,
) -> Path:
    """A directory with a history and files that have hostile text in every field."""
    directory = tmp_path_factory.mktemp("hostile")
    database_url = f"sqlite:///{directory / 'data' / 'history.db'}"
    sqlite_template.copy_to(directory / "data" / "history.db")
    store = Store.open(database_url)
    shape: dict[str, Any] = {"system": f"S {EVIL}", "params": {"model": f"M {EVIL}"}}
    outcome = Outcome(status=Status.ANSWERED, answer=f"`A` {EVIL} **b**", model=f"M {EVIL}")
    store.upsert(Question(question=f"Q apple {EVIL}", **shape), outcome)
    failed = Outcome(
        status=Status.FAILED, error_kind="provider-refused", error=f"E {EVIL}", model=f"M {EVIL}"
    )
    store.upsert(Question(question=f"Q {EVIL}", **shape), failed)
    store.close()
    lines = [json.dumps({"question": f"Q {EVIL}", "key": f"K {EVIL}", "id": f"I {EVIL}"})]
    (directory / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (directory / f"evil{EVIL}.txt").write_text(f"F {EVIL}", encoding="utf-8")
    env = {
        **command_environment(_provider, database_url),
        "QA_DATA_DIR": str(directory / "data"),
        "QA_CONFIG": str(directory / "config.toml"),
        "XDG_DATA_HOME": str(directory / "share"),
    }
    done = Invoke(env)("batch", str(directory / "items.jsonl"), "--name", "b")
    assert done.code == 0, done.err
    return directory


@pytest.fixture
def hostile(invoke: Invoke, hostile_files: Path, home: Path) -> Invoke:
    """`qa` with a copy of the hostile history and files."""
    shutil.copytree(hostile_files, home, dirs_exist_ok=True)
    return replace(invoke, env={**invoke.env, "QA_SYSTEM": f"S {EVIL}", "PAGER": "cat"})


def assert_harmless(seen: Any) -> None:
    for text in (seen.out, seen.err):
        for evil in ("\x1b]", "\x1b[31mred", "\x9b", "\x7f", "\u202e", "\u200b"):
            assert evil not in text, ascii(text)
        found = re.search(UNSAFE, OURS.sub("", text))
        assert found is None, ascii(text)


COMMANDS = [
    "list",
    "list --search apple",
    "list --format json",
    "list --format jsonl",
    "list --format csv",
    "show 1",
    "show 1 --json",
    "show 2",
    "show 1 --thread",
    "show 1 --field answer",
    "show 1 --field params",
    "export",
    "export --format csv",
    "export --format md",
    "stats --by model",
    "stats --by model --json",
    "batch list",
    "batch show b",
    "batch results b",
    "batch results b --format csv",
    "batch results b --format openai",
    "config",
    "config --json",
    "tag 1 +good --json",
    "template list",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_with_hostile_records_leaves_the_terminal_alone(
    hostile: Invoke, console: Callable[..., Any], command: str
) -> None:
    seen = console(hostile, *command.split())
    assert seen.code == 0, seen.err
    assert seen.out or command == "template list"
    assert_harmless(seen)
    if command.endswith(("json", "--json")):
        json.loads(seen.out)
    if command.endswith(("jsonl", "export", "batch results b", "openai")):
        for line in seen.out.split("\r\n")[:-1]:
            json.loads(line)
    if command == "show 1 --json":
        assert json.loads(seen.out)["question"] == f"Q apple {EVIL}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", f"x{EVIL}"],
        ["ask", "-m", f"m{EVIL}", "Who?"],
        ["ask", "-f", f"none{EVIL}", "Who?"],
        ["ask", "-t", f"none{EVIL}", "Who?"],
        ["ask", f"--none{EVIL}"],
        ["ask", "--schema", f"a {EVIL}", "Who?"],
        [f"none{EVIL}"],
        ["batch", f"none{EVIL}"],
        ["batch", "show", f"none{EVIL}"],
        ["batch", "items.jsonl", "--name", f"n{EVIL}"],
        ["config", "set", f"none{EVIL}", "1"],
        ["config", "set", "system", f"S{EVIL}"],
        ["tag", "1", f"+{EVIL}"],
        ["import", f"none{EVIL}"],
        ["help", f"none{EVIL}"],
    ],
    ids=lambda arguments: " ".join(arguments[:2])[:20],
)
def test_command_with_hostile_arguments_leaves_the_terminal_alone(
    hostile: Invoke, console: Callable[..., Any], arguments: list[str]
) -> None:
    assert_harmless(console(hostile, *arguments))


@pytest.mark.parametrize("options", [[], ["--raw"], ["--json"], ["--no-stream"], ["-v"]])
@pytest.mark.parametrize("fails", [False, True])
def test_ask_with_hostile_provider_leaves_the_terminal_alone(
    invoke: Invoke,
    provider: FakeProvider,
    console: Callable[..., Any],
    options: list[str],
    fails: bool,
) -> None:
    bad = Reply(status=400, message=f"E {EVIL}")
    provider.script(bad if fails else Reply(text=f"A {EVIL}", model=f"M {EVIL}"))
    seen = console(invoke, "ask", *options, f"Q {EVIL}")
    assert seen.code == (5 if fails else 0)
    assert_harmless(seen)


def test_batch_with_hostile_items_on_a_terminal_leaves_it_alone(
    hostile: Invoke, console: Callable[..., Any], home: Path
) -> None:
    seen = console(hostile, "batch", str(home / "items.jsonl"), "--format", "csv", "--name", "c")
    assert seen.code == 0, seen.err
    assert_harmless(seen)


def test_pipe_with_hostile_records_gets_every_byte(hostile: Invoke) -> None:
    assert hostile("show", "1", "--field", "question").out == f"Q apple {EVIL}\n"
    assert json.loads(hostile("show", "1", "--json").out)["question"] == f"Q apple {EVIL}"
