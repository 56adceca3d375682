"""Completion in bash, zsh and fish, and of lines with quotes and colons."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qacli.cli.completion import complete, parse_line
from qacli.cli.completion_scripts import SCRIPTS
from qacli.cli.completion_values import _load_settings
from qacli.config.loader import load_settings
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Program

    from qacli.db.records import Store

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def history(store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A history with tags that have colons and spaces."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    _load_settings.cache_clear()
    for question, tags in (("Who am I?", ("two words", "a:b")), ('A "café":\n`x`', ("good",))):
        store.upsert(
            Question(question=question, params={"model": "qwen3:8b"}, tags=tags),
            Outcome(status=Status.ANSWERED, answer="You.", model="qwen3:8b"),
        )
    return store


def texts(line: str) -> list[str]:
    """Return the completions of a line."""
    return [value.text for value in complete(parse_line(line)) or ()]


@pytest.mark.usefixtures("history", "home")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("qa sh", ["show"]),
        ("qa list --fo", ["--follow", "--format"]),
        ("qa migrate st", ["status"]),
        ("qa list --tag ", ["a:b", "good", "two words"]),
        ("qa list --tag=a:", ["a:b"]),
        ("qa list --tag two\\ w", ["two words"]),
        ('qa list --tag "two w', ["two words"]),
        ("qa tag 1 +g", ["+good"]),
        ("qa ask -m qwen3:", ["qwen3:8b"]),
        ("qa show ", ["last", "2", "1"]),
        ("qa rm 1 2", ["2"]),
        ("qa help exit", ["exit-codes"]),
        ("qa config set temp", ["temperature"]),
        ("qa stats --by mon", ["month"]),
        ("qa ask --tag x -- --t", []),
    ],
)
def test_complete_line_returns_matching_words(line: str, expected: list[str]) -> None:
    assert texts(line) == expected


@pytest.mark.usefixtures("home")
def test_complete_template_profile_and_batch_file() -> None:
    _load_settings.cache_clear()
    file = load_settings().config_path
    assert file is not None
    (file.parent / "templates").mkdir(parents=True)
    (file.parent / "templates" / "review.toml").write_text("")
    file.write_text('[profiles.work]\nmodel = "m"\n')
    assert texts("qa ask -t r") == ["review"]
    assert texts("qa --profile ") == ["work"]
    assert complete(parse_line("qa batch questions")) is None


@pytest.mark.usefixtures("history")
def test_complete_record_has_its_question_on_one_line_as_help() -> None:
    values = complete(parse_line("qa show "))
    assert values is not None
    assert values[1] == ("2", 'A "café": `x`')


@sqlite_only
@pytest.mark.parametrize("state", ["missing", "empty", "damaged", "locked", "wrong settings"])
def test_completion_without_history_prints_nothing(
    state: str, qa: Program, settings_file: Path
) -> None:
    connection = None
    if state == "empty":
        settings_file.touch()
    elif state == "damaged":
        settings_file.write_bytes(b"no database" * 100)
    elif state == "locked":
        connection = sqlite3.connect(settings_file, isolation_level=None)
        connection.execute("CREATE TABLE question_answer (id, tags)")
        connection.execute("BEGIN EXCLUSIVE")
    environ = {"QA_TIMEOUT": "never"} if state == "wrong settings" else {}
    done = qa(_QA_COMPLETE="complete_bash", _QA_COMPLETE_LINE="qa list --tag ", **environ)
    assert (done.code, done.out, done.err) == (0, "", "")
    if connection is not None:
        connection.close()
    elif state == "missing":
        assert not settings_file.exists()


@pytest.fixture
def settings_file(home: Path, qa: Program) -> Path:
    """The path of the history of `qa`, a file that does not exist."""
    assert qa
    file = home / "data" / "history.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    return file


PROGRAM = """
import json, os, sys
from qacli.__main__ import main
def report(code):
    json.dump(list(sys.modules), sys.stderr)
    sys.exit(code)
os._exit = report
main()
"""


@sqlite_only
@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    "line",
    [
        *("qa sh", "qa help ex", "qa list --tag ", "qa list --batch ", "qa show ", "qa ask -m q"),
        *("qa ask -t ", "qa --profile ", "qa config set te"),
    ],
)
def test_completion_loads_nothing_heavy(line: str, qa: Program) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=qa.environ(_QA_COMPLETE="complete_zsh", _QA_COMPLETE_LINE=line),
        capture_output=True,
        check=True,
        text=True,
    )
    modules = set(json.loads(done.stderr))
    assert not modules & {
        "openai",
        "sqlalchemy",
        "sqlmodel",
        "pydantic",
        "typer",
        "rich",
        "asyncio",
        "dataclasses",
        "inspect",
        "hashlib",
        "tomllib",
    }


@pytest.fixture
def type_in_shell(
    qa: Program, tmp_path: Path, wait_for: Callable[..., object]
) -> Iterator[Callable[[str, str, str], None]]:
    """Return a function that types a line and Tab in a shell, and waits for a text."""
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux here")
    path = f"{Path(qa.command[0]).parent}{os.pathsep}{os.environ['PATH']}"
    environ = qa.environ(PATH=path, HOME=str(tmp_path), TERM="xterm-256color")
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", os.devnull]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*tmux, *arguments], env=environ, capture_output=True, check=True, text=True
        )
        return done.stdout

    def type_line(shell: str, line: str, expected: str) -> None:
        if shutil.which(shell) is None:
            pytest.skip(f"there is no {shell} here")
        script = tmp_path / "script"
        start = "autoload -Uz compinit; compinit -u -D\n" if shell == "zsh" else ""
        script.write_text(start + SCRIPTS[shell].strip() + "\n")
        if shell == "zsh":
            (tmp_path / ".zshrc").write_text(f"source {script}\n")
        command = {
            "bash": f"bash --rcfile {script}",
            "zsh": "env -u ZDOTDIR zsh",
            "fish": f"fish -C 'source {script}'",
        }
        run("new-session", "-d", "-x", "100", "-y", "24", command[shell])
        wait_for(lambda: run("capture-pane", "-p").strip(), 60)
        run("send-keys", "-l", line)
        wait_for(lambda: line.strip() in run("capture-pane", "-p"), 60)
        run("send-keys", "Tab")
        wait_for(lambda: expected in run("capture-pane", "-p"), 60)

    yield type_line
    subprocess.run([*tmux, "kill-server"], capture_output=True, check=False)


@sqlite_only
@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("qa list --tag tw", r"--tag two\ words"),
        ("qa ask --model=qwen3:", "--model=qwen3:8b"),
    ],
)
def test_tab_in_a_shell_completes_the_value(
    shell: str, line: str, expected: str, type_in_shell: Callable[[str, str, str], None]
) -> None:
    type_in_shell(shell, line, expected)


@sqlite_only
def test_install_completion_writes_the_script_of_the_shell(qa: Program, tmp_path: Path) -> None:
    for shell, file in (
        ("bash", ".bash_completions/qa.sh"),
        ("fish", ".config/fish/completions/qa.fish"),
    ):
        if shutil.which(shell) is None:
            pytest.skip(f"there is no {shell} here")
        # `; true`: the shell must stay the parent of the process.
        subprocess.run(
            [shell, "-c", f"{' '.join(qa.command)} --install-completion; true"],
            env=qa.environ(HOME=str(tmp_path)),
            capture_output=True,
            check=True,
        )
        assert (tmp_path / file).read_text() == SCRIPTS[shell].lstrip()
