"""Revision 0006, up and down with data: idempotency keys become each caller's own."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from qacli.config.settings import Settings
from qacli.db import migrate
from qacli.db.records import Store
from qacli.errors import RecordRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

REVISION = Path(migrate.migrations_path() / "versions" / "0006_callers_own_records.py")
INSERT = (
    "INSERT INTO question_answer (question, answer, created_at, status, params, tags, uid, caller, "
    "idempotency_key) VALUES (:question, :answer, '2026-01-02 03:04:05', 'answered', '{}', '[]', "
    ":uid, :caller, :key)"
)


@pytest.fixture
def at_0005(database_url: str) -> Iterator[Store]:
    """A database at revision 0005 with three records, whose newest one has been removed."""
    store = Store(Settings(database_url=database_url).database)
    with store.migrating() as connection:
        migrate.upgrade(connection, "0005")
        for uid, caller, key in (("a", None, "k1"), ("b", "bob", "k2"), ("c", None, None)):
            insert(connection, uid, caller, key)
        insert(connection, "removed", None, None)
        connection.execute(sa.text("DELETE FROM question_answer WHERE uid = 'removed'"))
    yield store
    store.close()


def insert(connection: sa.Connection, uid: str, caller: str | None, key: str | None) -> None:
    values = {"question": f"zebra {uid}", "answer": "giraffe", "uid": uid}
    connection.execute(sa.text(INSERT), {**values, "caller": caller, "key": key})


def move(store: Store, revision: str) -> None:
    with store.migrating() as connection:
        go = migrate.upgrade if revision == "0006" else migrate.downgrade
        go(connection, revision)


def rows(store: Store) -> list[tuple[Any, ...]]:
    query = "SELECT id, uid, caller, idempotency_key, question FROM question_answer ORDER BY id"
    with store.transaction() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_upgrade_with_records_keeps_them_and_their_index(at_0005: Store) -> None:
    before = rows(at_0005)
    move(at_0005, "0006")
    assert rows(at_0005) == before
    if at_0005.sqlite:
        found = "SELECT count(*) FROM question_answer_search WHERE question_answer_search MATCH "
        with at_0005.migrating() as connection:
            assert connection.scalar(sa.text(f"{found} 'zebra'")) == 3
            # The triggers exist again: a changed record is found only by its new words.
            connection.execute(sa.text("UPDATE question_answer SET question = 'lion' WHERE id = 1"))
            connection.execute(sa.text("DELETE FROM question_answer WHERE id = 2"))
            assert connection.scalar(sa.text(f"{found} 'zebra'")) == 1
            assert connection.scalar(sa.text(f"{found} 'lion'")) == 1
            check = "INSERT INTO question_answer_search(question_answer_search) VALUES "
            connection.execute(sa.text(f"{check} ('integrity-check')"))


@pytest.mark.parametrize("way", [["0006"], ["0006", "0005"]])
def test_migration_after_removal_gives_no_id_twice(at_0005: Store, way: list[str]) -> None:
    for revision in way:
        move(at_0005, revision)
    with at_0005.migrating() as connection:
        insert(connection, "new", None, None)
    assert rows(at_0005)[-1][:2] == (5, "new")


def test_migration_of_an_emptied_history_gives_no_id_twice(at_0005: Store) -> None:
    with at_0005.migrating() as connection:
        connection.execute(sa.text("DELETE FROM question_answer"))
    move(at_0005, "0006")
    with at_0005.migrating() as connection:
        insert(connection, "new", None, None)
    assert rows(at_0005)[-1][:2] == (5, "new")


def test_upgraded_key_is_unique_for_each_caller(at_0005: Store) -> None:
    move(at_0005, "0006")
    with at_0005.migrating() as connection:
        insert(connection, "d", "alice", "k1")
        insert(connection, "e", "alice", "k2")
        insert(connection, "f", None, "k2")
        insert(connection, "g", None, None)
    for caller, key in ((None, "k1"), ("bob", "k2"), ("alice", "k1")):
        with pytest.raises(RecordRefused), at_0005.migrating() as connection:
            insert(connection, "h", caller, key)


def test_downgrade_with_shared_keys_leaves_them_to_the_oldest(at_0005: Store) -> None:
    move(at_0005, "0006")
    with at_0005.migrating() as connection:
        insert(connection, "d", "alice", "k1")
        insert(connection, "e", "alice", "k3")
    move(at_0005, "0005")
    assert {row[1]: row[3] for row in rows(at_0005)} == {
        "a": "k1",
        "b": "k2",
        "c": None,
        "d": None,
        "e": "k3",
    }
    with pytest.raises(RecordRefused), at_0005.migrating() as connection:
        insert(connection, "f", "carol", "k1")


def test_revision_0006_does_not_import_the_application() -> None:
    tree = ast.parse(REVISION.read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all("qacli" not in ast.unparse(node) for node in imported)
