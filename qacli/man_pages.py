"""Build hook: writes man pages (from `data/commands.json`) and completion files into the wheel.

hatchling loads this file by its path when it builds a wheel (`[tool.hatch.build.targets.wheel.
hooks.custom]` in pyproject.toml), so it imports nothing of qacli. They are installed in `share`
next to `bin`, where `man`, bash, zsh and fish look for them.
"""

import json
import runpy
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path(__file__).parent
COMPLETION_FILES = {
    "bash": "share/bash-completion/completions/qa",
    "zsh": "share/zsh/site-functions/_qa",
    "fish": "share/fish/vendor_completions.d/qa.fish",
}


class SharedFiles(BuildHookInterface[Any]):
    """Adds the files to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the files; an editable installation has none."""
        if version == "editable":
            return
        self._directory = TemporaryDirectory()
        root = Path(self._directory.name)
        for name, text in shared_files(self.metadata.version).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        build_data["shared_data"][str(root / "share")] = "share"

    def finalize(self, version: str, _build_data: dict[str, Any], _artifact: str) -> None:
        """Remove the files when they are in the wheel."""
        if version != "editable":
            self._directory.cleanup()


def shared_files(version: str) -> dict[str, str]:
    """Return the text of each file by its path."""
    table = json.loads((PACKAGE / "data" / "commands.json").read_text(encoding="utf-8"))
    scripts = runpy.run_path(str(PACKAGE / "cli" / "completion_scripts.py"))["SCRIPTS"]
    pages = {
        f"share/man/man1/{name.replace(' ', '-')}.1": man_page(name, command, table, version)
        for name, command in _commands("qa", table)
    }
    return pages | {path: scripts[shell].lstrip() for shell, path in COMPLETION_FILES.items()}


def man_page(name: str, command: Mapping[str, Any], table: Mapping[str, Any], version: str) -> str:
    """Return the man page of a command as roff (man(7)).

    Args:
        name: The name of the command, such as `qa batch run`.
        command: Its entry in commands.json.
        table: The whole of commands.json.
        version: The version of qa.
    """
    title = name.replace(" ", "-")
    lines = [
        f'.TH {title.upper()} 1 "" "qa {version}" "qa"',
        *(".SH NAME", f"{_text(title)} \\- {_text(command['help'].rstrip('.'))}"),
        *(".SH SYNOPSIS", f"\\fB{_text(name)}\\fR {_text(command['usage'])}"),
        *(".SH DESCRIPTION", _text(command["help"])),
    ]
    if command["text"]:
        lines += [".PP", _text(command["text"])]
    if command["commands"]:
        lines.append(".SH COMMANDS")
        for child_name, child in command["commands"].items():
            page = f"{title}-{child_name}"
            lines += [".TP", f".BR {_text(page)} (1)", _text(child["help"])]
    if command["arguments"]:
        lines.append(".SH ARGUMENTS")
        for argument, text in zip(command["arguments"], command["argument_help"], strict=True):
            lines += [".TP", f".I {_text(argument.removesuffix('...'))}", _text(text)]
    lines.append(".SH OPTIONS")
    for option, names in groupby(command["options"], lambda name: command["options"][name]):
        value = f" \\fI{_text(option['value'])}\\fR" if "value" in option else ""
        flags = ", ".join(f"\\fB{_text(flag)}\\fR" for flag in sorted(names, key=len))
        lines += [".TP", flags + value, _text(option["help"])]
    if command["examples"]:
        lines += [".SH EXAMPLES", ".nf", *map(_text, command["examples"]), ".fi"]
    lines.append(".SH EXIT STATUS")
    for code, text in table["exit_codes"].items():
        lines += [".TP", f".B {code}", _text(text)]
    parent = name.rpartition(" ")[0].replace(" ", "-")
    lines += [".SH SEE ALSO", f".BR {_text(parent or 'qa-help')} (1)"]
    return "\n".join(lines) + "\n"


def _commands(name: str, command: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a command with its whole name, then each command below it."""
    yield name, command
    for child_name, child in command["commands"].items():
        yield from _commands(f"{name} {child_name}", child)


def _text(text: str) -> str:
    """Escape one line of text for roff, so that none of it is a request or an escape."""
    escaped = " ".join(text.splitlines()).replace("\\", "\\e")
    escaped = escaped.replace("-", "\\-").replace("'", "\\(aq")
    escaped = escaped.replace("^", "\\(ha").replace("~", "\\(ti").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
