"""Read the names in a history for the completion of a shell.

It uses the driver alone: SQLAlchemy takes longer to load than a completion may take.
"""

from contextlib import closing
from typing import Any

RECENT_RECORDS = 2000
"""Tags and models of older records are not completed: a long history would take too long."""

MAX_VALUES = 500
HELP_CHARACTERS = 60
LOCK_SECONDS = 0.05
CONNECT_SECONDS = 1

NEWEST = (
    "(SELECT model, tags FROM question_answer "  # noqa: S608 - constants
    f"ORDER BY id DESC LIMIT {RECENT_RECORDS}) AS n"
)
TAGS = {
    "sqlite": f"SELECT DISTINCT value FROM {NEWEST}, json_each(n.tags) ORDER BY 1",  # noqa: S608 - constants
    "postgresql": f"SELECT DISTINCT jsonb_array_elements_text(tags) FROM {NEWEST} ORDER BY 1",  # noqa: S608 - constants
}
MODELS = f"SELECT DISTINCT model FROM {NEWEST} WHERE model IS NOT NULL ORDER BY 1"  # noqa: S608 - constants
BATCHES = f"SELECT name FROM batch ORDER BY id DESC LIMIT {MAX_VALUES}"  # noqa: S608 - constants
RECORDS = (
    f"SELECT id, coalesce(title, substr(question, 1, {HELP_CHARACTERS})) "  # noqa: S608 - constants
    f"FROM question_answer ORDER BY id DESC LIMIT {MAX_VALUES}"
)


class History:
    """A history that is opened for each query, and never created or migrated.

    Args:
        url: The database, as in `Settings.database`.

    Each method raises the driver's error if the history cannot be read.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def tags(self) -> list[str]:
        """Return the tags of the newest records."""
        kind = "sqlite" if self._url.startswith("sqlite") else "postgresql"
        return [str(tag) for (tag,) in self._rows(TAGS[kind])]

    def models(self) -> list[str]:
        """Return the models of the newest records."""
        return [name for (name,) in self._rows(MODELS)]

    def batches(self) -> list[str]:
        """Return the names of the newest batches."""
        return [name for (name,) in self._rows(BATCHES)]

    def records(self) -> list[tuple[Any, ...]]:
        """Return the id and the title or question of the newest records."""
        return self._rows(RECORDS)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        if self._url.startswith("sqlite:///"):
            import sqlite3
            from urllib.parse import quote

            file = self._url.removeprefix("sqlite:///").partition("?")[0]
            uri = f"file:{quote(file)}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS)) as connection:
                return connection.execute(query).fetchall()
        import psycopg2

        url = self._url.replace("postgresql+psycopg2://", "postgresql://", 1)
        with (
            closing(psycopg2.connect(url, connect_timeout=CONNECT_SECONDS)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f"SET statement_timeout = {CONNECT_SECONDS * 1000}")
            cursor.execute(query)
            return [*cursor.fetchall()]
