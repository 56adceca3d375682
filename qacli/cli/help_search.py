"""The search of `qa help WORDS`: in topics, commands, options and settings."""

import re
from collections.abc import Iterator
from itertools import chain

from qacli.cli.completion import command_table

Entry = tuple[str, str]
"""A name as it is typed, such as `qa ask --reuse`, and its text."""


def is_command(words: list[str]) -> bool:
    """Return whether the words are the name of a command, such as `batch run`."""
    node = command_table()
    for word in words:
        if word not in node["commands"]:
            return False
        node = node["commands"][word]
    return True


def search_help(words: list[str], topics: list[Entry]) -> list[Entry]:
    """Return the topics, commands, options and settings that have all of the words.

    A word matches the beginning of a word, in any case. Names that have all of the words come
    first.

    Args:
        words: The words to search for.
        topics: The topics of `qa help`.
    """
    patterns = [re.compile(rf"(?<![^\W_]){re.escape(word)}", re.IGNORECASE) for word in words]

    def matches(text: str) -> bool:
        return all(pattern.search(text) for pattern in patterns)

    rows = [row for row in chain(topics, _entries()) if matches(" ".join(row))]
    rows = [(name, text.strip().partition("\n")[0]) for name, text in rows]
    return sorted(rows, key=lambda row: not matches(row[0]))


def _entries() -> Iterator[Entry]:
    from qacli.config.settings import setting_fields

    nodes = [("qa", command_table())]
    while nodes:
        name, node = nodes.pop(0)
        yield name, f"{node['help']} {node['text']}".strip()
        for option, item in node["options"].items():
            if option.startswith("--") and option != "--help":
                yield f"{name} {option}", item["help"]
        nodes += [(f"{name} {child}", item) for child, item in node["commands"].items()]
    for field in setting_fields():
        yield (
            f"qa config set {field.name} ({field.env})",
            field.help.replace("`", ""),
        )
