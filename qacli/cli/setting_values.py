"""The values of settings as text, with secrets masked."""

from dataclasses import Field
from pathlib import Path
from typing import Any

from qacli.config.parsers import parse_list
from qacli.config.settings import Settings
from qacli.redaction import without_password

VISIBLE_CHARACTERS = 4
MIN_LONG_SECRET = 16
"""A shorter secret is masked whole: its last characters would tell too much."""


def one_line(value: object) -> str:
    """Return the value in one line: a system prompt may have several."""
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else " ".join(str(value).split())


def visible_value(item: Field[Any], settings: Settings) -> Any:  # noqa: ANN401 - as JSON has it
    """Return the setting's value as data for JSON, with secrets masked."""
    value = getattr(settings, item.name)
    if item.name == "database_url":
        value = value or settings.database
    elif item.name == "data_dir":
        value = settings.data_path
    elif item.name == "tokens" and value:
        return ",".join(f"{part.partition('=')[0].strip()}=***" for part in parse_list(value))
    elif item.metadata["secret"] and value:
        return f"…{value[-VISIBLE_CHARACTERS:]}" if len(value) >= MIN_LONG_SECRET else "set"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        try:
            return settings.redact(without_password(value) if "://" in value else value)
        except ValueError:
            return "set"
    return value
