from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from qacli import __version__
from qacli.cli import EXIT_CODES

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Program

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

COMMANDS = ["ask", "chat", "show", "list", "migrate", "serve"]


def test_help_lists_the_commands_and_the_exit_codes(qa: Program) -> None:
    done = qa("--help")
    assert (done.code, done.err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.out, re.MULTILINE)
    for code in EXIT_CODES:
        assert re.search(rf"^ +{code}  \w", done.out, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(qa: Program, command: str) -> None:
    done = qa(command, "--help", COLUMNS="80")
    assert (done.code, done.err) == (0, "")
    _, _, examples = done.out.partition("Examples:\n")
    assert re.search(rf"^ +(.* )?qa {command}\b", examples, re.MULTILINE)


def test_the_version_is_printed(qa: Program) -> None:
    assert qa("--version").out == f"qa {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lsit"], "No such command 'lsit'. Did you mean 'list'?"),
        (["rseults", "nightly"], "Did you mean 'results'?"),
        (["results.txt"], "results.txt cannot be read: No such file"),
    ],
)
def test_a_mistyped_command_of_batch_is_told_from_a_file(
    qa: Program, words: list[str], said: str
) -> None:
    done = qa("batch", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_file_may_have_nearly_the_name_of_a_command(qa: Program, home: Path) -> None:
    (home / "lsit").write_text("Who am I?\n")
    assert qa("batch", "lsit", "--input", "txt", "--dry-run").out.startswith("questions   1\n")


def test_a_mistyped_command_gets_a_hint(qa: Program) -> None:
    done = qa("shwo")
    assert (done.code, done.out) == (2, "")
    assert "'shwo'" in done.err
    assert "'show'" in done.err


def test_no_command_at_all_shows_the_help(qa: Program) -> None:
    done = qa()
    assert done.code in {0, 2}
    assert "Usage: qa" in done.out + done.err
