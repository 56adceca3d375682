"""Each flag has one meaning in all commands, and the help has no Python types."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import typer

from qacli.cli.app import build_app
from qacli.cli.command import RENAMED_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Invoke

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def commands(command: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command and group with its name as typed after `qa`."""
    command = command or typer.main.get_command(build_app())
    yield name, command
    for word, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {word}".strip())


COMMAND_NAMES = [name for name, _ in commands()]


@pytest.mark.parametrize("name", COMMAND_NAMES)
@on_sqlite
def test_help_of_each_command_has_no_python_type(invoke: Invoke, name: str) -> None:
    done = invoke(*name.split(), "--help", COLUMNS="80")
    assert (done.code, done.err) == (0, "")
    assert not re.search(
        r"<\w|list\[|<=|>=|\.\.\.\}|[{}]\.\.\.", done.out.partition("Examples:")[0]
    )


def test_flags_have_one_meaning_in_all_commands() -> None:
    long_of_short: dict[str, set[str]] = {}
    values: dict[str, set[str | None]] = {}
    for _, command in commands():
        for option in (each for each in command.params if each.param_type_name == "option"):
            [long] = [name for name in option.opts if name.startswith("--")]
            for short in set(option.opts) - {long}:
                long_of_short.setdefault(short, set()).add(long)
            values.setdefault(long, set()).add(None if option.is_flag else option.metavar)
    assert {short: names for short, names in long_of_short.items() if len(names) > 1} == {}
    # A list of threads, and the number of a server's; the thread of the record, and that of an id.
    several = {long: kinds for long, kinds in values.items() if len(kinds) > 1}
    assert several == {"--threads": {None, "N"}, "--thread": {None, "ID"}}
    # A thread of records, and the threads of a server.
    assert [long for long in values if f"{long}s" in values] == ["--thread"]


def test_renamed_options_name_an_option_of_their_command() -> None:
    for name, command in commands():
        renamed = RENAMED_OPTIONS.get(name, {})
        names = {spelling for option in command.params for spelling in option.opts}
        assert not names & renamed.keys()
        assert names >= set(renamed.values())
    assert set(RENAMED_OPTIONS) <= set(COMMAND_NAMES)


@on_sqlite
@pytest.mark.parametrize(
    ("arguments", "old", "new"),
    [
        (["list", "-s", "one"], "-s", "--search"),
        (["list", "-sone"], "-s", "--search"),
        (["list", "--follows", "1"], "--follows", "--follow"),
        (["list", "--follows=1"], "--follows", "--follow"),
        (["export", "-f", "jsonl"], "-f", "--format"),
        (["stats", "-s", "one"], "-s", "--search"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_old_spelling_works_with_a_notice(
    invoke: Invoke, arguments: list[str], old: str, new: str
) -> None:
    assert invoke("ask", "one").code == 0
    done = invoke(*arguments)
    assert (done.code, done.err) == (0, f"qa: {old} is deprecated here. Use {new}.\n")
    value = arguments[-1].removeprefix(old).removeprefix("=")
    assert done.out == invoke(arguments[0], new, value).out
    assert f"{old} " not in invoke(arguments[0], "--help").out


@on_sqlite
def test_old_spelling_of_batch_works_with_a_notice(invoke: Invoke, home: Path) -> None:
    (home / "words.csv").write_text("word\none\n")
    for arguments in (["-t", "Say {word}"], ["--template", "Say {word}"]):
        done = invoke("batch", "words.csv", "--dry-run", *arguments)
        assert (done.code, done.out[:15]) == (0, "questions   1\nt")
        assert done.err == f"qa: {arguments[0]} is deprecated here. Use --question.\n"


@on_sqlite
def test_option_value_like_an_old_spelling_is_a_value(invoke: Invoke) -> None:
    assert invoke("ask", "--", "-s").code == 0
    done = invoke("list", "--search", "-s", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)[0]["question"] == "-s"
