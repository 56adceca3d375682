"""Open the databases: engines, transactions, and the check of the schema.

Transactions are short and never span a provider call. SQLite is in WAL mode, so readers never
wait; writers wait for each other (inside a process by a lock, between processes by BEGIN IMMEDIATE
and a long busy timeout). A SQLite history is created and migrated when it is opened, by one process
at a time; a PostgreSQL one only by `qa migrate`, because its administrator may want to choose the
time.

A SQLite history on a read-only disk, or in a directory of another user, can be read by a command
that opens it only while it reads.
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import sqlalchemy as sa
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
)

from qacli.db import migrate
from qacli.db.connection_loss import renew_idle
from qacli.errors import DatabaseError, RecordRefused
from qacli.private_files import make_private_directory
from qacli.redaction import hide_secrets, passwords_in, without_password

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql
    from sqlmodel import SQLModel

BUSY_SECONDS = 60
CONNECT_SECONDS = 5
TCP_TIMEOUT_SECONDS = 20
"""TCP_USER_TIMEOUT for PostgreSQL: the time without an acknowledgement that ends a connection."""

NO_ROOM_FOR_INDEX = ("SQLITE_IOERR_SHM", "SQLITE_FULL")
ADVICE_ON_SERVER = (
    "Check that it is running, that DATABASE_URL is right, and that qa migrate was run."
)
DEFAULT_FILE_ADVICE = (
    "Check that the file is a history of qa, or set QA_DATA_DIR or DATABASE_URL to another."
)
ADVICE_ON_FILE = (
    (
        ("SQLITE_FULL", "SQLITE_IOERR_SHM", "SQLITE_IOERR_WRITE"),
        "Make room on the disk of the file.",
    ),
    (
        ("SQLITE_CORRUPT", "SQLITE_NOTADB"),
        "The file is damaged, or not a history of qa: restore it from a backup, or name another.",
    ),
    (
        ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"),
        (
            "Check that you may write the file, any -wal and -shm next to it, and the directory; "
            "or set QA_DATA_DIR or DATABASE_URL to another."
        ),
    ),
    (
        ("SQLITE_BUSY", "SQLITE_LOCKED"),
        "Another program is writing to the file: try again when it has finished.",
    ),
    (
        ("SQLITE_IOERR",),
        "Check that the disk of the file has free space and no faults.",
    ),
)
"""Advice on errors of SQLite, by the beginning of their names; the first match is used."""


class Database:
    """One database, SQLite or PostgreSQL.

    Args:
        url: The database with its driver; see `Settings.database`.
        connections: The size of the connection pool; 0 opens a connection for each use.
    """

    def __init__(self, url: str, *, connections: int = 0) -> None:
        self.url = url
        self._engine = engine_for(url, connections=connections)
        self.sqlite = self._engine.dialect.name == "sqlite"
        # One SQLite writer at a time in this process: a lock is fair, SQLite's own waiting is not.
        self._write_lock = threading.Lock() if self.sqlite else nullcontext()

    @classmethod
    def open(cls, url: str, *, connections: int = 0) -> Self:
        """Open a database; a SQLite file is created or migrated if necessary.

        Raises:
            SchemaMismatch: A PostgreSQL database is not migrated, or any is newer than qa.
            DatabaseError: The database cannot be reached or opened.
        """
        database = cls(url, connections=connections)
        if database.sqlite:
            database._bring_up_to_date()
        else:
            database.check()
        return database

    def check(self) -> None:
        """Check that the database can be used and that its schema is current.

        Raises:
            SchemaMismatch: The schema is not current.
            DatabaseError: The database cannot be used.
        """
        migrate.check_schema(self.revision())

    def revision(self) -> str | None:
        """Return the schema's revision; None if there is no schema yet."""
        with self.transaction() as connection:
            return migrate.current_revision(connection)

    def exists(self) -> bool:
        """Return False if the database is a SQLite file that does not exist yet.

        Raises:
            DatabaseError: The file's directory cannot be read.
        """
        with _explain_errors(self.url):
            return not self.sqlite or self._file.exists()

    @property
    def writable(self) -> bool:
        """True if the database may be written; for SQLite, by the modes of file and directory."""
        if not (self.sqlite and self.exists()):
            return True
        return all(os.access(path, os.W_OK) for path in (self._file, self._file.parent))

    @property
    def _file(self) -> Path:
        return Path(self._engine.url.database or "")

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """Open a transaction that changes the schema, in one process at a time.

        A SQLite file is created if it does not exist.
        """
        with self._schema_lock(), self.transaction(write=True) as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """Open a transaction that is committed at the end.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with (
            _explain_errors(self.url),
            self._write_lock if write else nullcontext(),
            self._engine.connect() as connection,
            nullcontext() if self.sqlite else _without_autocommit(connection),
            connection.begin(),
        ):
            if self.sqlite:
                # The driver begins no transaction itself, see `_sqlite_connected`.
                connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a connection for a single SELECT, without the messages of a transaction.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with _explain_errors(self.url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing_one(self) -> Iterator[sa.Connection]:
        """Open a connection for a single statement that writes; see `reading`."""
        with self._write_lock, self.reading() as connection:
            yield connection

    def insert(self, table: "type[SQLModel] | sa.TableClause") -> "postgresql.Insert":
        """Return an INSERT with `on_conflict_*`, which both dialects have with the same syntax."""
        if self.sqlite:
            from sqlalchemy.dialects import sqlite

            return cast("postgresql.Insert", sqlite.insert(table))
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def outside_transaction(self, *statements: str) -> None:
        """Run statements that cannot run inside a transaction.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with _explain_errors(self.url), self._write_lock:
            connection = self._engine.raw_connection()
            try:
                for statement in statements:
                    connection.cursor().execute(statement)
            finally:
                connection.close()

    def _bring_up_to_date(self) -> None:
        revision = self.revision() if self.exists() else None
        if revision is not None and (revision not in migrate.revisions() or not self.writable):
            migrate.check_schema(revision)
        if revision != migrate.head_revision():
            with self.migrating() as connection:
                # Another process may have migrated it while this one waited.
                if migrate.current_revision(connection) != migrate.head_revision():
                    migrate.upgrade(connection)

    @contextmanager
    def _schema_lock(self) -> Iterator[None]:
        """Lock the schema of a SQLite file against other processes; Alembic locks PostgreSQL."""
        if not self.sqlite:
            yield
            return
        file = self._file
        with _explain_errors(self.url):
            make_private_directory(file.parent)
            lock = os.open(file.with_name(file.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with _explain_errors(self.url):
                # Questions are private: only the owner may read the file.
                os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
                # Not possible inside a transaction; the file keeps this mode.
                connection = self._engine.raw_connection()
                connection.cursor().execute("PRAGMA journal_mode=WAL")
                connection.close()
            yield
        finally:
            os.close(lock)


def engine_for(url: str, *, connections: int = 0) -> sa.Engine:
    """Return an engine with the timeouts and transactions that qa needs; nothing is opened yet."""
    options: dict[str, Any] = {"poolclass": sa.pool.NullPool}
    if connections:
        options = {
            "poolclass": sa.pool.QueuePool,
            "pool_size": connections,
            "max_overflow": 0,
            "pool_timeout": BUSY_SECONDS,
        }
    if url.startswith("sqlite"):
        engine = sa.create_engine(
            url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, **options
        )
        sa.event.listen(engine, "connect", _sqlite_connected)
        if not connections:
            sa.event.listen(engine, "do_connect", _connecting_to_sqlite)
        return engine
    connect_args = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "qa",
        # A machine that is switched off sends nothing: without these a query waits for hours.
        "keepalives_idle": CONNECT_SECONDS,
        "keepalives_interval": CONNECT_SECONDS,
        "keepalives_count": 3,
        "tcp_user_timeout": TCP_TIMEOUT_SECONDS * 1000,
    }
    # Send the updates of many rows in one message.
    options["executemany_mode"] = "values_plus_batch"
    engine = sa.create_engine(url, connect_args=connect_args, **options)
    sa.event.listen(engine, "connect", _postgresql_connected)
    if connections:
        renew_idle(engine)
    return engine


def _postgresql_connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
    # A single statement is no transaction: `Database.transaction` begins them.
    connection.autocommit = True


@contextmanager
def _without_autocommit(connection: sa.Connection) -> Iterator[None]:
    """Let psycopg2 begin a transaction before the first statement of the `with` block."""
    driver: Any = connection.connection.driver_connection
    driver.autocommit = False
    try:
        yield
    finally:
        if not driver.closed:
            driver.autocommit = True


def _connecting_to_sqlite(
    dialect: sa.Dialect, _record: object, arguments: Sequence[str], options: dict[str, Any]
) -> Any | None:  # noqa: ANN401 - the driver's
    """Open a history that cannot be opened in the usual way: a read-only one, or on a full disk.

    SQLite needs two files next to the history, `-wal` and `-shm`: the first process to open it
    creates them, the last to close it removes them. If they are missing and cannot be created, no
    process has the history open. A process may open it later: keep these connections short.
    """
    file = Path(arguments[0])
    open_elsewhere = file.with_name(file.name + "-wal").exists()
    if not file.exists():
        return None
    if os.access(file.parent, os.W_OK) or open_elsewhere:
        return _connected_on_full_disk(dialect, arguments, options)
    return dialect.connect(f"{file.absolute().as_uri()}?immutable=1", **{**options, "uri": True})


def _connected_on_full_disk(
    dialect: sa.Dialect, arguments: Sequence[str], options: dict[str, Any]
) -> Any | None:  # noqa: ANN401 - the driver's
    """Connect without the `-shm` file if the disk is full; return None if it is not.

    In exclusive locking mode SQLite keeps that index in memory:
    https://www.sqlite.org/wal.html#use_of_wal_without_shared_memory
    """
    connection: Any = dialect.connect(*arguments, **options)
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").close()
    except dialect.loaded_dbapi.Error as error:
        connection.close()
        if not getattr(error, "sqlite_errorname", "").startswith(NO_ROOM_FOR_INDEX):
            return None
        connection = dialect.connect(*arguments, **options)
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").close()
    return connection


def _sqlite_connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
    # No transactions by the driver's rules: `Database.transaction` begins them.
    connection.isolation_level = None
    # A journal entry is deleted once its record is committed: the commit must survive a power cut.
    connection.execute("PRAGMA synchronous=FULL")
    # Overwrite deleted records with zeros.
    connection.execute("PRAGMA secure_delete=ON")


@contextmanager
def _explain_errors(url: str) -> Iterator[None]:
    """Turn errors of the driver into one sentence without a password."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        # libpq indents its own advice: "Is the server running on that host ...?"
        lines = [line for line in str(cause).splitlines() if not line.startswith("\t")]
        reason = " ".join(" ".join(lines).split()) or type(cause).__name__
        reason = hide_secrets(reason, passwords_in(url)).rstrip(".?")
        # PostgreSQL's error class 54: a value is too large for an index or a column.
        is_too_large = (getattr(cause, "pgcode", None) or "").startswith("54")
        if isinstance(error, DataError | IntegrityError) or is_too_large:
            raise _record_refused(url, reason) from error
        raise DatabaseError(
            f"The database {without_password(url)} cannot be used: {reason}.",
            _advice_on_file(cause) if url.startswith("sqlite") else ADVICE_ON_SERVER,
        ) from error
    except (ValueError, OverflowError) as error:
        # The driver refuses a value before it contacts the database.
        raise _record_refused(url, error) from error
    except OSError as error:
        raise DatabaseError(
            f"The database {without_password(url)} cannot be opened: {error.strerror}.",
            "Set QA_DATA_DIR or DATABASE_URL to a directory that can be written.",
        ) from error


def _advice_on_file(cause: object) -> str:
    """Return advice on an error of SQLite, by its name in https://sqlite.org/rescode.html."""
    name = getattr(cause, "sqlite_errorname", "")
    return next(
        (text for names, text in ADVICE_ON_FILE if name.startswith(names)), DEFAULT_FILE_ADVICE
    )


def _record_refused(url: str, reason: object) -> RecordRefused:
    return RecordRefused(
        f"The database {without_password(url)} does not accept the record: {reason}.",
        "This is a mistake in qa: please report it.",
    )
