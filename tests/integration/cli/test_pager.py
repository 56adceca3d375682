from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import write_env_file

from qacli.config.settings import Settings
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

MARK = "sed s/^/through:/"
RECORDS = 30


@pytest.fixture
def full(qa: Program, database_url: str) -> Program:
    """`qa` with a thread that is longer than the screen."""
    store = Store.open(Settings(database_url=database_url).database)
    answered = Outcome(status=Status.ANSWERED, answer="Some **bold** text.")
    ask = Question(question="first", params={"model": "m"})
    for number in range(RECORDS):
        before = store.upsert(ask, answered)
        ask = Question(question=f"Question {number}", params={"model": "m"}, follows_id=before)
    store.close()
    return replace(qa, env={**qa.env, "PAGER": "false"})


@pytest.mark.parametrize(
    "arguments", [["list", "-n", "0"], ["show", "last", "--thread"]], ids=" ".join
)
def test_pager_gets_output_longer_than_the_screen(
    full: Program, console: Callable[..., Any], arguments: list[str]
) -> None:
    seen = console(full, *arguments, QA_PAGER=MARK)
    assert (seen.code, seen.err) == (0, "")
    lines = seen.out.splitlines()
    assert len(lines) > RECORDS
    assert all(line.startswith("through:") for line in lines)
    by_environment = console(full, *arguments, PAGER=MARK)
    assert by_environment.out == seen.out
    if "show" in arguments:
        assert "\x1b[1mbold\x1b[0m" in seen.out


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["list", "-n", "20"], {}),
        (["show", "last"], {}),
        (["list", "-n", "0", "--no-pager"], {}),
        (["list", "-n", "0", "--json"], {}),
        (["list", "-n", "0", "--format", "jsonl"], {}),
        (["list", "-n", "0"], {"TERM": "dumb"}),
        (["list", "-n", "0"], {"QA_PAGER": "cat"}),
        (["list", "-n", "0"], {"QA_PAGER": "", "PAGER": "cat"}),
        (["list", "-n", "0"], {"QA_PAGER": "", "PAGER": ""}),
    ],
    ids=str,
)
def test_pager_not_needed_or_disabled_is_not_started(
    full: Program, console: Callable[..., Any], arguments: list[str], env: dict[str, str]
) -> None:
    seen = console(full, *arguments, **{"QA_PAGER": MARK, **env})
    assert (seen.code, seen.err) == (0, "")
    assert "Question 28" in seen.out
    assert "through:" not in seen.out


def test_pager_with_a_pipe_is_not_started(full: Program) -> None:
    done = full("list", "-n", "0", QA_PAGER=MARK)
    assert len(done.out.splitlines()) == RECORDS
    assert "through:" not in done.out


@pytest.mark.parametrize("pager", ["no-such-program -x", "unclosed '", " "])
def test_pager_that_cannot_start_warns_and_output_is_printed(
    full: Program, console: Callable[..., Any], pager: str
) -> None:
    seen = console(full, "list", "-n", "0", columns=200, QA_PAGER=pager)
    assert seen.code == 0
    assert len(seen.out.splitlines()) == RECORDS + 1
    assert seen.err.count("\n") == 1
    assert "cannot be started" in seen.err


def test_pager_quit_early_exits_0(
    full: Program, console: Callable[..., Any], database_url: str
) -> None:
    store = Store.open(Settings(database_url=database_url).database)
    for number in range(400):
        store.upsert(Question(question=f"{number} " + "x " * 200), Outcome())
    store.close()
    for arguments in (["list", "-n", "0"], ["show", "last", "--thread"]):
        seen = console(full, *arguments, rows=2, columns=400, QA_PAGER="head -1")
        assert (seen.code, seen.err) == (0, "")
        assert len(seen.out.splitlines()) == 1


def test_pager_gets_ctrl_c(full: Program, console: Callable[..., Any]) -> None:
    pager = "sh -c \"trap '' INT; read line; kill -INT 0; cat\""
    seen = console(full, "list", "-n", "0", QA_PAGER=pager)
    assert (seen.code, seen.err) == (0, "")
    assert len(seen.out.splitlines()) == RECORDS
    ended = console(full, "list", "-n", "0", QA_PAGER="sh -c 'read line; kill -INT 0; cat'")
    assert (ended.code, ended.err, ended.out) == (0, "", "")


def test_pager_of_an_env_file_is_refused(full: Program, home: Path) -> None:
    (home / ".env").write_text("QA_PAGER=touch stolen\n")
    assert full("list").code == 0
    assert not (home / "stolen").exists()
    write_env_file("QA_PAGER=touch stolen\n", home)
    done = full("list")
    assert done.code == 3
    assert "which programs run" in done.err
