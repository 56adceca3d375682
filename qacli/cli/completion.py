"""Completion of a command line for bash, zsh and fish.

A shell waits for it at each Tab, so no module is imported that builds the commands or opens the
history: the commands are in `qacli/data/commands.json` (written by docs/generate.py), and
`qacli.cli.completion_values` reads the values. For the scripts of the shells see
`qacli.cli.completion_scripts`.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qacli.cli.completion_values import Value, values_of

NO_FILES, FILES = 0, 1
"""The exit codes: all completions were printed; the shell completes the name of a file."""

FILE_VALUES = {"FILE", "PATH", "RESULTS"}
LIST_KEY = "63"
"""COMP_TYPE of bash while it only lists the completions, after a second Tab."""

MAX_LISTED_CHARACTERS = 70
SPECIAL = re.compile(r"""([\x00-\x20!"#$&'()*;<>?\[\\\]^`{|}~\x7f])""")
"""A character that bash, outside quotes, would not take for a part of a word; all are ASCII.

Python takes 10 ms to compile the opposite class, which has all other characters of Unicode.
"""


class Line:
    """A command line up to the cursor.

    Attributes:
        words: The complete words, without quotes.
        word: The word at the cursor, without quotes.
        raw: The same word as it is typed.
        quote: The quotation mark that is open at the cursor, or nothing.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.word = self.raw = self.quote = ""


def parse_line(text: str) -> Line:
    """Split a command line as a shell does; quotes may be open."""
    line = Line()
    characters = iter(text)
    for character in characters:
        if character.isspace() and not line.quote:
            if line.raw:
                line.words.append(line.word)
                line.word = line.raw = ""
            continue
        line.raw += character
        if character == line.quote:
            line.quote = ""
        elif character in "'\"" and not line.quote:
            line.quote = character
        elif character == "\\" and line.quote != "'":
            following = next(characters, "")
            line.raw += following
            line.word += following
        else:
            line.word += character
    return line


def command_table() -> dict[str, Any]:
    """Return the commands with their options and texts, as docs/generate.py has written them."""
    path = Path(__file__).parents[1] / "data" / "commands.json"
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


def complete(line: Line) -> list[Value] | None:  # noqa: C901, PLR0912 - the grammar of a command line
    """Return the completions at the cursor; None if a file name is expected there."""
    table = command_table()
    node, profile = table, None
    kind: str | None = None  # of the value that the last option takes
    arguments, options = 0, True
    for word in line.words[1:]:
        if kind is not None:
            profile = word if kind == "PROFILE" else profile
            kind = None
        elif options and word == "--":
            options = False
        elif options and word.startswith("-") and word != "-":
            name, has_value, value = word.partition("=")
            kind = None if has_value else node["options"].get(name, {}).get("value")
            if has_value and node["options"].get(name, {}).get("value") == "PROFILE":
                profile = value
        elif not arguments and word in node["commands"]:
            node = node["commands"][word]
        else:
            if not arguments and "run" in node["commands"]:  # qa batch FILE
                node = node["commands"]["run"]
            arguments += 1
    prefix = line.word
    if kind is None and options and prefix.startswith("-"):
        name, has_value, prefix = prefix.partition("=")
        if not has_value:
            return [
                Value(option, item["help"])
                for option, item in node["options"].items()
                if option.startswith(name) and (option.startswith("--") or name == option)
            ]
        kind = node["options"].get(name, {}).get("value", "")
    names: list[Value] = []
    if kind is None:
        if not arguments:
            names = [Value(name, item["help"]) for name, item in node["commands"].items()]
        expected = node["arguments"]
        if not expected and "run" in node["commands"] and not arguments:
            expected = node["commands"]["run"]["arguments"]
        if arguments < len(expected):
            kind = expected[arguments]
        elif expected and expected[-1].endswith("..."):
            kind = expected[-1]
    names = [item for item in names if item.text.startswith(prefix)]
    kind = (kind or "").removesuffix("...")
    if kind in FILE_VALUES:
        return names or None
    choices = [Value(text) for text in table["choices"].get(kind, ()) if text.startswith(prefix)]
    return names + choices + values_of(kind, prefix, profile)


def main(variables: Mapping[str, str]) -> int:
    """Print the completions of a command line; return an exit code.

    Args:
        variables: The line and the rest, as the script of the shell passes them.
    """
    line = parse_line(variables["_QA_COMPLETE_LINE"])
    shell = variables.get("_QA_COMPLETE", "").removeprefix("complete_")
    try:
        values = complete(line)
    except Exception:  # noqa: BLE001 - a message would stand in the middle of the user's line
        return NO_FILES
    if values is None:
        return FILES
    with_help = variables.get("_QA_COMPLETE_TYPE") == LIST_KEY
    breaks = variables.get("_QA_COMPLETE_BREAKS", "")
    for value in values:
        if shell == "zsh":
            text = value.text.replace("\\", "\\\\").replace(":", "\\:")
            text += f":{value.help}" if value.help else ""
        elif shell == "fish":
            before = re.match(r"--[\w-]+=", line.word)
            text = (before[0] if before else "") + value.text
            text += f"\t{value.help}" if value.help else ""
        elif with_help and len(values) > 1:
            text = f"{value.text}  ({value.help})" if value.help else value.text
            text = text[:MAX_LISTED_CHARACTERS]
        else:
            text = _for_bash(value.text, line, breaks)
        sys.stdout.write(text + "\n")
    return NO_FILES


def _for_bash(text: str, line: Line, breaks: str) -> str:
    """Return what bash puts in the place of the word at the cursor.

    For bash a word begins after the last character in COMP_WORDBREAKS that is not quoted.
    """
    if line.quote:
        return text
    before = re.match(r"--[\w-]+=", line.word)
    text = (before[0] if before else "") + text
    last = max((line.word.rfind(mark) for mark in ":=" if mark in breaks), default=-1)
    return SPECIAL.sub(r"\\\1", text[last + 1 :])
