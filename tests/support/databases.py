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
    from psycopg2.extensions import connection

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
"""The parts of a schema that a test may have changed: tables, indexes, columns, triggers."""

EMPTY = """
    DO $$
    DECLARE
        name text;
        large text[] := '{}';
    BEGIN
        FOR name IN
            SELECT oid::regclass FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0
        LOOP
            IF pg_total_relation_size(name) > 1048576 THEN
                large := large || name;
            ELSE
                EXECUTE 'DELETE FROM ' || name;
            END IF;
        END LOOP;
        IF large <> '{}' THEN
            EXECUTE 'TRUNCATE ' || array_to_string(large, ', ') || ' CASCADE';
        END IF;
        PERFORM setval(seqrelid::regclass, seqstart, false) FROM pg_sequence
            WHERE pg_sequence_last_value(seqrelid) IS NOT NULL;
    END $$
"""
"""Empties the tables; TRUNCATE makes new files of all indexes, which takes longer than DELETE."""

CLEANING = (
    # Triggers and foreign keys are not checked: all tables are emptied.
    "SET session_replication_role = 'replica'",
    "SET lock_timeout = '5s'",
)

CLEANER = "qa_tests"
"""The application name of the connections that stay open between the tests."""


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
        self._cleaners: dict[str, connection] = {}

    def create(self, template: str = "template1") -> str:
        """Create a database, by default an empty one; return its name."""
        name = f"qa_{uuid4().hex}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def execute(self, database: str, *statements: str) -> list[tuple[object, ...]]:
        """Run statements, each in its own transaction; returns the rows of the last."""
        with closing(self._connect(database)) as connection:
            return run_statements(connection, *statements)

    def _connect(self, database: str) -> connection:
        opened = psycopg2.connect(self.server.get_uri(database), application_name=CLEANER)
        opened.autocommit = True
        return opened

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """Yield the name of a migrated database without records; it is used again later."""
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
        """Delete all rows; return whether the schema is still that of the template."""
        cleaner = self._cleaners.get(name)
        if cleaner is None:
            cleaner = self._cleaners[name] = self._connect(name)
            run_statements(cleaner, *CLEANING)
        return run_statements(cleaner, OTHER_SESSIONS, EMPTY, SCHEMA) == self._schema

    def close(self) -> None:
        """Close the connections that stay open between the tests."""
        for cleaner in self._cleaners.values():
            cleaner.close()


def run_statements(cleaner: connection, *statements: str) -> list[tuple[object, ...]]:
    """Run statements, each in its own transaction; returns the rows of the last."""
    with cleaner.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


class SqliteTemplate:
    """A migrated SQLite file, copied for each test."""

    def __init__(self, file: Path) -> None:
        self.file = file
        bring_up_to_date(f"sqlite:///{file}")

    def copy_to(self, file: Path) -> None:
        """Copy the history to a file that does not exist yet, in a private directory."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(self.file, file)
