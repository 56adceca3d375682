"""The data layer: the only code that opens a database or writes a query.

One class for SQLite and PostgreSQL. Transactions are short and never span a provider call.
SQLite is in WAL mode, so readers never wait; its writers take turns (inside a process by a lock,
between processes by BEGIN IMMEDIATE and a long busy timeout). A SQLite history is created and
brought up to date when it is opened, by one process at a time; a PostgreSQL one only by
`qa migrate`, since somebody may own it who wants to know.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlmodel import Session, col, delete, select

from qacli import schema
from qacli.config import without_password
from qacli.errors import DatabaseError, NotFound, RecordRefused
from qacli.exchange import MAX_ID, Ask, Outcome, Status
from qacli.models import QuestionAnswer

record_ids = col(QuestionAnswer.id)
PAGE = 1000
BUSY_SECONDS = 60
CONNECT_SECONDS = 5


class Store:
    """The records of one database.

    Args:
        url: The database, with its driver, as `Settings.database` gives it.
        connections: How many connections to keep for threads; 0 opens one for each use.
    """

    def __init__(self, url: str, *, connections: int = 0) -> None:
        self.url = url
        self._engine = engine_for(url, connections=connections)
        self._sqlite = self._engine.dialect.name == "sqlite"
        # One SQLite writer at a time in this process: a lock is fair, SQLite's own waiting is not.
        self._turn = threading.Lock() if self._sqlite else nullcontext()

    @classmethod
    def open(cls, url: str, *, connections: int = 0) -> "Store":
        """The store, with its schema as this program needs it.

        Raises:
            SchemaMismatch: A PostgreSQL database is not migrated, or any is newer than qa.
            DatabaseError: The database cannot be reached or opened.
        """
        store = cls(url, connections=connections)
        if store._sqlite:
            store._bring_up_to_date()
        else:
            store.check()
        return store

    def check(self) -> None:
        """Whether the database answers and its schema is current.

        Raises:
            SchemaMismatch: The schema is another.
            DatabaseError: It does not answer.
        """
        schema.check(self.revision())

    def revision(self) -> str | None:
        """The schema's revision; None where there is no schema yet."""
        with self._connection() as connection:
            return schema.current(connection)

    def exists(self) -> bool:
        """Whether there is anything to open: a SQLite file may not have been made yet."""
        return not self._sqlite or Path(self._engine.url.database or "").exists()

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """A connection to change the schema with; one process at a time has it.

        What is done with it is committed at the end, all or nothing. A SQLite file is created
        where there is none.
        """
        with self._turn_at_schema(), self._connection(write=True) as connection:
            yield connection

    def keep(self, ask: Ask, outcome: Outcome) -> int:
        """Keep a question and what is known of its outcome; returns the record's id.

        The same question again only completes a record that is still `asking`: however often an
        outbox is delivered, the outcome that came first stays.

        Raises:
            DatabaseError: The database did not take it.
        """
        outcome_values = asdict(outcome)
        uid = sa.and_(col(QuestionAnswer.uid) == ask.uid)
        unfinished = sa.and_(uid, col(QuestionAnswer.status) == Status.ASKING)
        insert = sqlite.insert if self._sqlite else postgresql.insert
        statements: tuple[sa.Executable, ...] = (
            # First the update: an insert that conflicts would use up an id.
            sa.update(QuestionAnswer)
            .where(unfinished)
            .values(outcome_values)
            .returning(record_ids),
            insert(QuestionAnswer)
            .values({**asdict(ask), **outcome_values})
            .on_conflict_do_nothing(index_elements=["uid"])
            .returning(record_ids),
            sa.select(record_ids).where(uid),
        )
        with self._session(write=True) as session:
            for statement in statements:
                kept: int | None = session.execute(statement).scalar_one_or_none()
                if kept is not None:
                    return kept
        raise DatabaseError("The database did not keep the record.")

    def get(self, record_id: int) -> QuestionAnswer:
        """One record.

        Raises:
            NotFound: There is none with that id.
        """
        if 0 < record_id <= MAX_ID:
            with self._session() as session:
                record = session.get(QuestionAnswer, record_id)
            if record is not None:
                return record
        raise NotFound(f"There is no record {record_id}.", "List what there is: qa list")

    def last(self) -> QuestionAnswer:
        """The newest record.

        Raises:
            NotFound: There is none yet.
        """
        newest = self.page(limit=1, newest_first=True)
        if not newest:
            raise NotFound("There is no record yet.", 'Ask something: qa ask "Who am I?"')
        return newest[0]

    def page(
        self,
        *,
        limit: int,
        after: int | None = None,
        before: int | None = None,
        newest_first: bool = False,
    ) -> list[QuestionAnswer]:
        """Records in the order of their ids, by keyset: as quick at the end as at the start.

        Args:
            limit: How many at the most.
            after: Only ids above this one.
            before: Only ids below this one.
            newest_first: From the newest id down, instead of from the oldest up.
        """
        query = select(QuestionAnswer).limit(min(limit, MAX_ID))
        if after is not None:
            query = query.where(max(min(after, MAX_ID), -1) < record_ids)
        if before is not None:
            query = query.where(max(min(before, MAX_ID), -1) > record_ids)
        query = query.order_by(record_ids.desc() if newest_first else record_ids)
        with self._session() as session:
            return list(session.exec(query))

    def walk(
        self, *, after: int | None = None, before: int | None = None, limit: int | None = None
    ) -> Iterator[QuestionAnswer]:
        """Records from the oldest up, however many, a page at a time in memory."""
        last, left = after, MAX_ID if limit is None else limit
        while left > 0:
            page = self.page(limit=min(left, PAGE), after=last, before=before)
            yield from page
            if len(page) < PAGE:
                return
            last, left = page[-1].id, left - len(page)

    def remove(self, record_id: int) -> None:
        """Remove a record.

        Raises:
            NotFound: There is none with that id.
        """
        removed = 0
        if 0 < record_id <= MAX_ID:
            query = delete(QuestionAnswer).where(record_ids == record_id)
            with self._session(write=True) as session:
                removed = session.exec(query).rowcount
        if not removed:
            raise NotFound(f"There is no record {record_id}.", "List what there is: qa list")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[Session]:
        with (
            self._connection(write=write) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session
            session.commit()

    @contextmanager
    def _connection(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """A connection in a transaction that is committed at the end.

        Raises:
            DatabaseError: Whatever the database has against it, in one sentence.
        """
        with (
            _explained(self.url),
            self._turn if write else nullcontext(),
            self._engine.connect().execution_options(qa_write=write) as connection,
            connection.begin(),
        ):
            yield connection

    def _bring_up_to_date(self) -> None:
        revision = self.revision() if self.exists() else None
        if revision is not None and revision not in schema.revisions():
            schema.check(revision)
        if revision != schema.head():
            with self.migrating() as connection:
                # Another process may have done it while this one waited.
                if schema.current(connection) != schema.head():
                    schema.upgrade(connection)

    @contextmanager
    def _turn_at_schema(self) -> Iterator[None]:
        """Only one process at a time creates or changes a SQLite file; alembic locks PostgreSQL."""
        if not self._sqlite:
            yield
            return
        file = Path(self._engine.url.database or "")
        with _explained(self.url):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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
            "pool_pre_ping": True,
        }
    if url.startswith("sqlite"):
        engine = sa.create_engine(
            url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, **options
        )
        sa.event.listen(engine, "connect", _sqlite_connected)
        sa.event.listen(engine, "begin", _sqlite_begin)
        return engine
    connect_args = {"connect_timeout": CONNECT_SECONDS, "application_name": "qa"}
    return sa.create_engine(url, connect_args=connect_args, **options)


def _sqlite_connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
    # The driver would begin transactions by its own rules; `_sqlite_begin` does.
    connection.isolation_level = None
    # An outbox entry is dropped once its record is committed: the commit must survive a power cut.
    connection.execute("PRAGMA synchronous=FULL")


def _sqlite_begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("qa_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what the driver raises into one sentence without a password."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        reason = reason.replace(sa.make_url(url).password or "\0", "***").rstrip(".")
        if isinstance(error, DataError | IntegrityError):
            raise RecordRefused(
                f"The database {without_password(url)} does not take the record: {reason}.",
                "This is a mistake in qa: please report it.",
            ) from error
        raise DatabaseError(
            f"The database {without_password(url)} cannot be used: {reason}.",
            "See that it is running, that DATABASE_URL is right, and that qa migrate was run.",
        ) from error
    except OSError as error:
        raise DatabaseError(
            f"The database {without_password(url)} cannot be opened: {error.strerror}.",
            "Set QA_DATA_DIR or DATABASE_URL to a place that can be written.",
        ) from error
