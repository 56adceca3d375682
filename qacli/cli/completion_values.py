"""The values that complete an option or an argument, by the name that its help has for a value.

The history is read by `qacli.db.completion`. A value that cannot be read has no
completions.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from qacli.config.settings import Settings
    from qacli.db.completion import History

MAX_VALUES = 500
SHOWN_RECORDS = 20
HELP_CHARACTERS = 60


class Value(NamedTuple):
    """A completion with its help text, on one line."""

    text: str
    help: str = ""


def values_of(kind: str, prefix: str, profile: str | None) -> list[Value]:
    """Return the completions of one kind, such as TAG, that start with `prefix`.

    Args:
        kind: The name of the value in the help of its option, such as TAG.
        prefix: The beginning.
        profile: The profile on the command line.

    Raises:
        Exception: The settings or the history cannot be read.
    """
    if kind not in SOURCES:
        return []
    from qacli.config import loader

    if profile is not None:
        loader.choose_profile(profile)
    values = [
        Value(_one_line(item.text), _one_line(item.help)[:HELP_CHARACTERS])
        for item in SOURCES[kind]()
    ]
    values = [item for item in values if item.text.startswith(prefix)]
    return values[: SHOWN_RECORDS if kind == "ID" else MAX_VALUES]


def _one_line(text: str) -> str:
    """Return a text without control characters, so that a terminal prints nothing else."""
    return "".join(character if character.isprintable() else " " for character in text)


@cache
def _load_settings() -> "Settings":
    from qacli.config.loader import load_settings

    return load_settings()


def _history() -> "History":
    from qacli.db.completion import History

    return History(_load_settings().database)


def _tags() -> list[Value]:
    return [Value(tag) for tag in _history().tags()]


def _changes() -> list[Value]:
    """Return the changes that add a tag, and those that remove it."""
    tags = [tag.text for tag in _tags()]
    return [Value(sign + tag) for sign in "+-" for tag in tags]


def _batches() -> list[Value]:
    return [Value(name) for name in _history().batches()]


def _records() -> list[Value]:
    rows = [Value(str(number), text) for number, text in _history().records()]
    return rows and [Value("last", rows[0].help), *rows]


def _models() -> list[Value]:
    """Return the aliases, the models of the endpoint and those of the newest records.

    The list of the endpoint is the copy on disk. If it is old, another process reads the list
    again, for the next completion.
    """
    from qacli.provider.base_url import remote_url
    from qacli.provider.model_cache import ModelListCache

    settings = _load_settings()
    names = dict(settings.aliases)
    with suppress(Exception):
        if (url := remote_url(settings)) is not None:
            ids, is_fresh = ModelListCache(settings.data_path).get(url)
            names |= dict.fromkeys(ids, "")
            if not is_fresh:
                _refresh_models()
    with suppress(Exception):
        names |= {name: "" for name in _history().models() if name not in names}
    return [Value(*item) for item in names.items()]


def _refresh_models() -> None:
    """Start a process that reads the endpoint's list of models."""
    import subprocess

    subprocess.Popen(
        [sys.executable, "-m", "qacli.cli.model_names"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _templates() -> list[Value]:
    return [Value(name) for name in _load_settings().template_names()]


def _profiles() -> list[Value]:
    from qacli.config.file import ConfigFile
    from qacli.config.loader import config_file

    profiles = ConfigFile.read(config_file()).profiles
    return [
        Value(name, str(table.get("model") or table.get("base_url") or ""))
        for name, table in profiles.items()
    ]


def _settings() -> list[Value]:
    from qacli.config.settings import setting_fields

    return [Value(item.name, item.help.replace("`", "")) for item in setting_fields()]


SOURCES: dict[str, Callable[[], list[Value]]] = {
    "BATCH": _batches,
    "CHANGE": _changes,
    "ID": _records,
    "MODEL": _models,
    "PROFILE": _profiles,
    "SETTING": _settings,
    "TAG": _tags,
    "TEMPLATE": _templates,
}
"""The values of each kind."""
