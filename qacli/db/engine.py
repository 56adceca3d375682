"""Open the databases: engines, transactions, and the check of the schema.

Transactions are short and never span a provider call. SQLite is in WAL mode, so readers never
wait; its writers take turns (inside a process by a lock, between processes by BEGIN IMMEDIATE
and a long busy timeout). A SQLite history is created and brought up to date when it is opened,
by one process at a time; a PostgreSQL one only by `qa migrate`, since its administrator may want
to decide when.

A SQLite history on a read-only disk, or in a directory of another user, can be read too, by a
command that opens it for as long as it reads.
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    SQLAlchemyError,
)

from qacli.db import migrate
from qacli.errors import DatabaseError, RecordRefused
from qacli.private_files import make_private_directory
from qacli.redaction import hide_secrets, passwords_in, without_password

BUSY_SECONDS = 60
CONNECT_SECONDS = 5
SILENT_SECONDS = 20
"""How long the other end of a connection may not even say that it has heard."""

IDLE_SECONDS = 1.0
"""How long a connection may have been idle before it is asked whether it still works."""


NO_ROOM_FOR_INDEX = ("SQLITE_IOERR_SHM", "SQLITE_FULL")
ADVICE_ON_SERVER = (
    "See that it is running, that DATABASE_URL is right, and that qa migrate was run."
)
OTHER_FILE = "See that the file is a history of qa, or set QA_DATA_DIR or DATABASE_URL to another."
ADVICE_ON_FILE = (
    (
        ("SQLITE_FULL", "SQLITE_IOERR_SHM", "SQLITE_IOERR_WRITE"),
        "Make room on the disk that the file is on.",
    ),
    (
        ("SQLITE_CORRUPT", "SQLITE_NOTADB"),
        "The file is damaged, or is no history of qa: restore it from a backup, or name another.",
    ),
    (
        ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"),
        (
            "See that the file, any -wal and -shm beside it, and the directory are yours to "
            "write, or set QA_DATA_DIR or DATABASE_URL to another."
        ),
    ),
    (
        ("SQLITE_BUSY", "SQLITE_LOCKED"),
        "Another program is writing to the file: try again when it has finished.",
    ),
    (
        ("SQLITE_IOERR",),
        "See that the disk that the file is on has room and no faults.",
    ),
)
"""What to do about errors of SQLite, by the beginning of their names; the first one counts."""


class Database:
    """One database, SQLite or PostgreSQL.

    Args:
        url: The database, with its driver, as `Settings.database` gives it.
        connections: How many connections to keep for threads; 0 opens one for each use.
    """

    def __init__(self, url: str, *, connections: int = 0) -> None:
        self.url = url
        self._engine = engine_for(url, connections=connections)
        self.sqlite = self._engine.dialect.name == "sqlite"
        # One SQLite writer at a time in this process: a lock is fair, SQLite's own waiting is not.
        self._turn = threading.Lock() if self.sqlite else nullcontext()

    @classmethod
    def open(cls, url: str, *, connections: int = 0) -> Self:
        """The database, with its schema as this program needs it.

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
        """Whether the database answers and its schema is current.

        Raises:
            SchemaMismatch: The schema is another.
            DatabaseError: It does not answer.
        """
        migrate.check_schema(self.revision())

    def revision(self) -> str | None:
        """The schema's revision; None where there is no schema yet."""
        with self.transaction() as connection:
            return migrate.current_revision(connection)

    def exists(self) -> bool:
        """Whether there is anything to open: a SQLite file may not have been made yet.

        Raises:
            DatabaseError: Its directory may not even be looked into.
        """
        with _explained(self.url):
            return not self.sqlite or self._file.exists()

    @property
    def writable(self) -> bool:
        """Whether it may be written, as far as can be seen: SQLite's files are like any others."""
        if not (self.sqlite and self.exists()):
            return True
        return all(os.access(path, os.W_OK) for path in (self._file, self._file.parent))

    @property
    def _file(self) -> Path:
        return Path(self._engine.url.database or "")

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """A connection to change the schema with; one process at a time has it.

        What is done with it is committed at the end, all or nothing. A SQLite file is created
        where there is none.
        """
        with self._turn_at_schema(), self.transaction(write=True) as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """A connection in a transaction that is committed at the end.

        Raises:
            DatabaseError: Whatever the database has against it, in one sentence.
        """
        with (
            _explained(self.url),
            self._turn if write else nullcontext(),
            self._engine.connect() as connection,
            connection.begin(),
        ):
            if self.sqlite:
                # Its driver has been told to begin nothing by itself.
                connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for a single statement that reads: in SQLite that needs no transaction.

        Raises:
            DatabaseError: Whatever the database has against it, in one sentence.
        """
        with _explained(self.url), self._engine.connect() as connection:
            yield connection

    def outside_transaction(self, *statements: str) -> None:
        """Run what cannot run inside a transaction.

        Raises:
            DatabaseError: Whatever the database has against it.
        """
        with _explained(self.url), self._turn:
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
                # Another process may have done it while this one waited.
                if migrate.current_revision(connection) != migrate.head_revision():
                    migrate.upgrade(connection)

    @contextmanager
    def _turn_at_schema(self) -> Iterator[None]:
        """Only one process at a time creates or changes a SQLite file; alembic locks PostgreSQL."""
        if not self.sqlite:
            yield
            return
        file = self._file
        with _explained(self.url):
            make_private_directory(file.parent)
            lock = os.open(file.with_name(file.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with _explained(self.url):
                # Questions are private: the file is its owner's alone.
                os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
                # Not possible inside a transaction; kept in the file from then on.
                connection = self._engine.raw_connection()
                connection.cursor().execute("PRAGMA journal_mode=WAL")
                connection.close()
            yield
        finally:
            os.close(lock)


def engine_for(url: str, *, connections: int = 0) -> sa.Engine:
    """An engine with the timeouts and transactions that qa relies on; it opens nothing yet."""
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
        # A machine that is gone says nothing: all that is asked would wait for it.
        "keepalives_idle": CONNECT_SECONDS,
        "keepalives_interval": CONNECT_SECONDS,
        "keepalives_count": 3,
        "tcp_user_timeout": SILENT_SECONDS * 1000,
    }
    # Updates of many rows go in one message and not one each.
    options["executemany_mode"] = "values_plus_batch"
    engine = sa.create_engine(url, connect_args=connect_args, **options)
    if connections:
        _renew_idle(engine)
    return engine


def _renew_idle(engine: sa.Engine) -> None:
    """Replace connections that broke while idle, for example when the database restarted.

    A connection that was just used is not tested: a test costs as much as a query. If it breaks
    in that moment, its user gets the error, and all others get new connections.
    """

    def used(_connection: Any, record: Any) -> None:  # noqa: ANN401 - the pool's
        record.info["used"] = monotonic()

    def take(connection: Any, record: Any, _proxy: Any) -> None:  # noqa: ANN401 - the pool's
        if monotonic() - record.info.get("used", inf) < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error

    sa.event.listen(engine, "checkin", used)
    sa.event.listen(engine, "checkout", take)


def _connecting_to_sqlite(
    dialect: sa.Dialect, _record: object, arguments: Sequence[str], options: dict[str, Any]
) -> Any | None:  # noqa: ANN401 - the driver's
    """Open a history that cannot be opened in the usual way: a read-only one, or on a full disk.

    SQLite needs two files beside the history, `-wal` and `-shm`: the first process to open it
    makes them, the last to close it removes them. Where they are missing and cannot be made, no
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
    """Connect without the `-shm` file where the disk has no room for it; None where it has.

    A connection that has the file for itself alone keeps that index in memory instead:
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
    # The driver would begin transactions by its own rules; `Database.transaction` does.
    connection.isolation_level = None
    # An outbox entry is dropped once its record is committed: the commit must survive a power cut.
    connection.execute("PRAGMA synchronous=FULL")
    # What is removed is overwritten.
    connection.execute("PRAGMA secure_delete=ON")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what the driver raises into one sentence without a password."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        reason = hide_secrets(reason, passwords_in(url)).rstrip(".?")
        # PostgreSQL's class 54: a value is larger than an index or a column can hold.
        is_too_large = (getattr(cause, "pgcode", None) or "").startswith("54")
        if isinstance(error, DataError | IntegrityError) or is_too_large:
            raise _refused(url, reason) from error
        raise DatabaseError(
            f"The database {without_password(url)} cannot be used: {reason}.",
            _advice_on_file(cause) if url.startswith("sqlite") else ADVICE_ON_SERVER,
        ) from error
    except (ValueError, OverflowError) as error:
        # What a driver refuses before it asks the database.
        raise _refused(url, error) from error
    except OSError as error:
        raise DatabaseError(
            f"The database {without_password(url)} cannot be opened: {error.strerror}.",
            "Set QA_DATA_DIR or DATABASE_URL to a place that can be written.",
        ) from error


def _advice_on_file(cause: object) -> str:
    """Return what to do about an error of SQLite, by its name in https://sqlite.org/rescode.html."""
    name = getattr(cause, "sqlite_errorname", "")
    return next((text for names, text in ADVICE_ON_FILE if name.startswith(names)), OTHER_FILE)


def _refused(url: str, reason: object) -> RecordRefused:
    return RecordRefused(
        f"The database {without_password(url)} does not take the record: {reason}.",
        "This is a mistake in qa: please report it.",
    )
