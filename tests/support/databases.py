"""Migrated databases for tests, without a run of Alembic for each.

A migrated SQLite file is copied. A migrated PostgreSQL database is made from a template once, and
emptied and used again by later tests: that takes a fifth of the time of a new one.
"""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg2

from qacli.config.settings import Settings
from qacli.db import migrate
from qacli.db.records import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from postgres_server import Postgres

TEMPLATE = "qa_template"
OTHER_SESSIONS = (
    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
SCHEMA = """
    SELECT c.relname, c.relkind, a.attname, a.atttypid, a.attnotnull
    FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        AND c.relkind IN ('r', 'i', 'S', 'v')
    UNION ALL
    SELECT tgname, tgenabled, '', 0, NULL FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT version_num, '', '', 0, NULL FROM alembic_version
    ORDER BY 1, 2, 3
"""
"""What a test may have changed: tables, indexes, columns, triggers and the revision."""

EMPTY = """
    DO $$
    DECLARE tables text;
    BEGIN
        SELECT string_agg(quote_ident(relname), ', ') INTO tables FROM pg_class
        LEFT JOIN pg_sequences ON sequencename = relname || '_id_seq'
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
            AND relname <> 'alembic_version'
            AND (pg_relation_size(pg_class.oid) > 0 OR last_value IS NOT NULL);
        IF tables IS NOT NULL THEN
            EXECUTE 'TRUNCATE ' || tables || ' RESTART IDENTITY CASCADE';
        END IF;
    END $$
"""
"""Empties the tables that have had rows or ids: to empty all of them takes much longer."""


def bring_up_to_date(url: str) -> None:
    """Migrate a database to the newest revision, as `qa migrate` does."""
    with closing(Store(url)) as store, store.migrating() as connection:
        migrate.upgrade(connection)


def read_records(url: str) -> list[dict[str, Any]]:
    """Read the records of a database (at most 1,000), without the program; the oldest first."""
    with closing(Store.open(Settings(database_url=url).database)) as store:
        return [record.to_dict() for record in store.page(limit=1000)]


def count_records(url: str) -> int:
    """Count the records of a database, without the program."""
    with closing(Store.open(Settings(database_url=url).database)) as store:
        return store.count()


class PostgresDatabases:
    """The databases of one server."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._free: list[str] = []
        self._schema: list[tuple[object, ...]] = []

    def create(self, template: str = "template1") -> str:
        """Create a database, by default an empty one; returns its name."""
        name = f"qa_{uuid4().hex}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def execute(self, database: str, *statements: str) -> list[tuple[object, ...]]:
        """Run statements, each in its own transaction; returns the rows of the last."""
        with closing(psycopg2.connect(self.server.get_uri(database))) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """Lend a migrated database without records; gives its name."""
        if not self._schema:
            self.execute("postgres", f"CREATE DATABASE {TEMPLATE}")
            bring_up_to_date(Settings(database_url=self.server.get_uri(TEMPLATE)).database)
            self._schema = self.execute(TEMPLATE, SCHEMA)
        name = self._free.pop() if self._free else self.create(TEMPLATE)
        yield name
        # A test that changed the schema leaves a database that no other test gets.
        with suppress(psycopg2.Error):
            if self._is_emptied(name):
                self._free.append(name)

    def _is_emptied(self, name: str) -> bool:
        """Delete all rows; returns whether the schema is still that of the template."""
        schema = self.execute(name, OTHER_SESSIONS, "SET lock_timeout = '5s'", EMPTY, SCHEMA)
        return schema == self._schema


class SqliteTemplate:
    """A migrated SQLite file, copied for each test."""

    def __init__(self, file: Path) -> None:
        self.file = file
        bring_up_to_date(f"sqlite:///{file}")

    def copy_to(self, file: Path) -> None:
        """Copy the history to a file that does not exist yet, in a private directory."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(self.file, file)
