"""The values of settings as text, with secrets masked."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from qacli.config.declaration import Setting
from qacli.config.parsers import parse_list
from qacli.config.settings import Settings
from qacli.redaction import MASK, SECRET_HEADER, hide_header, without_password

VISIBLE_CHARACTERS = 4
MIN_LONG_SECRET = 16
"""Minimum length of a secret whose last characters are shown."""


def one_line(value: object) -> str:
    """Return the value in one line: a system prompt may have several."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()  # as in the configuration file
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    return "-" if value is None else " ".join(str(value).split())


def visible_value(item: Setting, settings: Settings) -> Any:  # noqa: ANN401 - as JSON has it
    """Return the setting's value as data for JSON, with secrets masked."""
    value = getattr(settings, item.name)
    if item.name == "base_url" and value:
        value = _visible_url(value)
    if item.name == "database_url":
        value = value or settings.database
    elif item.name == "data_dir":
        value = settings.data_path
    elif item.name == "tokens" and value:
        return ",".join(f"{part.partition('=')[0].strip()}=***" for part in parse_list(value))
    elif item.secret and value:
        return f"…{value[-VISIBLE_CHARACTERS:]}" if len(value) >= MIN_LONG_SECRET else "set"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        try:
            return settings.redact(without_password(value) if "://" in value else value)
        except ValueError:
            return "set"
    return value


def visible_tables(settings: Settings) -> dict[str, Any]:
    """Return the tables of the configuration file that are not empty, with secrets masked."""
    tables = {
        "aliases": dict(settings.aliases),
        "models": {name: dict(options) for name, options in settings.model_defaults.items()},
        "headers": {
            # The name of a variable is no secret.
            name: value if value.startswith("$") else hide_header(name, value)
            for name, value in settings.headers.items()
        },
        "extra_body": dict(settings.extra_body),
    }
    return {name: table for name, table in tables.items() if table}


def _visible_url(url: str) -> str:
    """Return a base URL with its password and the keys in its query masked."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    hidden = [(name, MASK if SECRET_HEADER.search(name) else value) for name, value in query]
    return without_password(urlunsplit(parts._replace(query=urlencode(hidden, safe="*"))))
