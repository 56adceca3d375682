"""Read SQLite files that belong to other programs, without changing them.

The other program may have the file open and may write to it. So each query is a transaction of its
own and reads all of its rows at once: no lock is held while the rows are stored in the history.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from qacli.errors import InvalidRequest

HEADER = b"SQLite format 3\x00"
"""The first bytes of every SQLite database (https://www.sqlite.org/fileformat2.html#the_database_header)."""

HEADER_SIZE = 100
WRITE_VERSION = 18
"""Position in the header of the journal mode: 1 is a rollback journal, 2 is WAL."""

WAL = 2
BUSY_SECONDS = 30.0
Row = dict[str, Any]


class SqliteFile:
    """An open SQLite file; created by `open_sqlite`.

    Attributes:
        path: The path as the user wrote it.
        tables: The names of its tables.
    """

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        connection.row_factory = sqlite3.Row
        # Text that is not UTF-8 must not end the import; it is replaced.
        connection.text_factory = lambda data: data.decode(errors="replace")
        names = self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        self.tables = frozenset(row["name"] for row in names)

    def rows(self, query: str, *values: object) -> list[Row]:
        """Return all rows of a query, by column name.

        Args:
            query: A SELECT with `?` for each value.
            values: The value of each `?`; a list is passed as a JSON array, for `json_each(?)`.

        Raises:
            InvalidRequest: The rows cannot be read.
        """
        parameters = [json.dumps(item) if isinstance(item, list) else item for item in values]
        try:
            return [dict(row) for row in self._connection.execute(query, parameters)]
        except sqlite3.Error as error:
            raise damaged(self.path, error) from None

    def row(self, query: str, *values: object) -> Row | None:
        """Return the first row of a query, or None."""
        return next(iter(self.rows(query, *values)), None)

    def check(self, *tables: str) -> None:
        """Check the structure of these tables, if the file has them, and of their indexes.

        Raises:
            InvalidRequest: A table is damaged.
        """
        for table in tables:
            if table in self.tables:
                quoted = table.replace("'", "''")
                [result, *_] = self.rows(f"PRAGMA quick_check('{quoted}')")
                reason = next(iter(result.values()))
                if reason != "ok":
                    raise damaged(self.path, f"table {table}: {' '.join(str(reason).split())}")


def damaged(path: str, reason: object) -> InvalidRequest:
    """Return the error for a database that cannot be read to its end."""
    return InvalidRequest(
        f"The database {path} cannot be read: {str(reason).rstrip('.')}.",
        "If it is damaged, recover it first: sqlite3 FILE .recover | sqlite3 recovered.db",
    )


@contextmanager
def open_sqlite(path: str, name: str = "") -> Iterator[SqliteFile]:
    """Open a SQLite file for reading, with the content of its write-ahead log.

    Args:
        path: The file.
        name: Its name in errors; by default the path.

    Raises:
        InvalidRequest: The file is not a SQLite database, is damaged, is locked for too long, or
            has changed in a way that makes the rows unreliable.
        OSError: The file cannot be read.
    """
    file, name = Path(path).absolute(), name or path
    with file.open("rb") as header:
        data = header.read(HEADER_SIZE)
    if not data.startswith(HEADER) or len(data) < HEADER_SIZE:
        raise InvalidRequest(f"{name} is not a SQLite database.", "Check the path.")
    # If a database in WAL mode has no log next to it, no process has it open. Opening it normally
    # would leave two files next to it that its owner may not be able to write; see
    # https://www.sqlite.org/wal.html#read_only_databases.
    is_unused = data[WRITE_VERSION] == WAL and not file.with_name(f"{file.name}-wal").exists()
    before = file.stat()
    uri = f"{file.as_uri()}?{'immutable=1' if is_unused else 'mode=ro'}"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.Error as error:
        raise damaged(name, error) from None
    with closing(connection):
        yield SqliteFile(name, connection)
    after = file.stat()
    if is_unused and (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise InvalidRequest(
            f"Another program has written to {name} during the import.",
            "Import it again: nothing is added twice.",
        )
