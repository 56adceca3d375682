"""Revision 0007, up and down with data: the kind of an error and the corrected record."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from qacli.config.settings import Settings
from qacli.db import migrate
from qacli.db.records import Store
from qacli.errors import error_kinds

REVISION = Path(migrate.migrations_path() / "versions" / "0007_error_kind.py")
INSERT = (
    "INSERT INTO question_answer (id, question, created_at, status, params, tags, uid, error, "
    "follows_id) VALUES (:id, :question, '2026-01-02 03:04:05', :status, '{}', '[]', :uid, "
    ":error, :follows_id)"
)
UNFIT = "The answer does not fit the schema: 'age' is missing."
REPAIR = f"{UNFIT} Answer again, with nothing but JSON that fits the schema."

RECORDS = [
    # question, error before, follows_id, error_kind, error, corrects_id
    ("Who?", "provider-refused: He: 400.", None, "provider-refused", "He: 400.", None),
    ("Invent a dog", f"unfit-answer: {UNFIT}", None, "unfit-answer", UNFIT, None),
    (REPAIR, f"unfit-answer: {UNFIT}", 2, "unfit-answer", UNFIT, 2),
    (REPAIR, None, 2, None, None, 2),
    ("Another question", None, 2, None, None, None),
    (REPAIR, None, 1, None, None, None),
    (REPAIR, None, 99, None, None, None),
    ("Old", "A note: of another program", None, None, "A note: of another program", None),
    ("Odd", ": nothing", None, None, ": nothing", None),
    ("Cut", "interrupted: ", None, "interrupted", "", None),
    ("Plain", "No colon", None, None, "No colon", None),
]  # fmt: skip


@pytest.fixture
def at_0006(database_url: str) -> Iterator[Store]:
    """A database at revision 0006 with records of that version."""
    store = Store(Settings(database_url=database_url).database)
    with store.migrating() as connection:
        migrate.upgrade(connection, "0006")
        for number, (question, error, follows_id, *_) in enumerate(RECORDS, 1):
            values = {"id": number, "uid": f"u{number}", "question": question, "error": error}
            values |= {"status": "failed" if error else "answered", "follows_id": follows_id}
            connection.execute(sa.text(INSERT), values)
    yield store
    store.close()


def rows(store: Store, columns: str) -> list[tuple[object, ...]]:
    with store.transaction() as connection:
        query = sa.text(f"SELECT {columns} FROM question_answer ORDER BY id")  # noqa: S608 - names of columns
        return [tuple(row) for row in connection.execute(query)]


def test_upgrade_with_errors_and_corrections_fills_both_columns(at_0006: Store) -> None:
    with at_0006.migrating() as connection:
        migrate.upgrade(connection, "0007")
    expected = [(kind, error, corrects_id) for *_, kind, error, corrects_id in RECORDS]
    assert rows(at_0006, "error_kind, error, corrects_id") == expected


def test_downgrade_after_an_upgrade_restores_the_errors(at_0006: Store) -> None:
    before = rows(at_0006, "id, question, error, follows_id")
    with at_0006.migrating() as connection:
        migrate.upgrade(connection, "0007")
        migrate.downgrade(connection, "0006")
    assert rows(at_0006, "id, question, error, follows_id") == before


def test_kinds_in_the_migration_are_those_of_its_version() -> None:
    body = ast.parse(REVISION.read_text())
    [kinds] = [
        node.value
        for node in body.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "KINDS"
    ]
    frozen = {node.value for node in ast.walk(kinds) if isinstance(node, ast.Constant)}
    assert frozen <= error_kinds()
