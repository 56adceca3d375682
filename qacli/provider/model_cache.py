"""The copies on disk of the names of the models that endpoints serve.

They are for the completion of `--model` and for the advice in an error, which must not wait for
the network.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from qacli.private_files import make_private_directory, write_private

FILE_NAME = "models.json"
FRESH = timedelta(hours=12)
"""The age up to which the copy of a list is used without a request."""

MAX_MODELS = 5000
"""Models of one endpoint in the copy."""


class ModelListCache:
    """The copies of the lists of all endpoints, in one file of the data directory.

    Args:
        directory: The data directory.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE_NAME

    def get(self, base_url: str) -> tuple[list[str], bool]:
        """Return the names of an endpoint's models, and whether they are fresh."""
        entry = self._read().get(_key(base_url), {})
        ids = [name for name in entry.get("ids", ()) if isinstance(name, str)]
        with suppress(KeyError, ValueError, TypeError):
            age = datetime.now(UTC) - datetime.fromisoformat(entry["read_at"])
            return ids, timedelta(0) <= age < FRESH
        return ids, False

    def put(self, base_url: str, ids: Sequence[str], *, fresh_for: timedelta = FRESH) -> None:
        """Store a list. If the file cannot be written, a later process sends one more request."""
        table = self._read()
        read_at = datetime.now(UTC) - FRESH + fresh_for
        table[_key(base_url)] = {
            "read_at": read_at.isoformat(timespec="seconds"),
            "ids": [*ids[:MAX_MODELS]],
        }
        with suppress(OSError):
            make_private_directory(self._file.parent)
            write_private(self._file, json.dumps(table, indent=1).encode())

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            table = json.loads(self._file.read_bytes())
            return {str(key): {**entry} for key, entry in table.items()}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            return {}


def _key(base_url: str) -> str:
    """Return a URL without user, password and query: they may be secrets."""
    from urllib.parse import urlsplit

    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
