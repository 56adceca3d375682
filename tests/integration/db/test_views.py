"""The SQL views for programs of others."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Invoke

from qacli.db import migrate, views
from qacli.db.records import Store

PAGE = Path(__file__).parents[3] / "docs" / "record.md"


def rows_of(store: Store, sql: str) -> list[dict[str, Any]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(sa.text(sql)).mappings()]


def view_names(store: Store) -> set[str]:
    with store.reading() as connection:
        return set(sa.inspect(connection).get_view_names())


@pytest.fixture
def history(store: Store, invoke: Invoke, tmp_path: Path) -> Store:
    """A history with a batch, of which one row is answered, one has failed, and one waits."""
    assert invoke("ask", "--tag", "a", "--tag", "it's ü", "Who am I?").code == 0
    file = tmp_path / "q.csv"
    file.write_text("id,text\nr1,Good\nr2,[[status=400]] Bad\n")
    assert invoke("batch", str(file), "--name", "b").code == 8
    file.write_text("id,text\nr1,Good\nr2,[[status=400]] Bad\nr3,New\n")
    assert invoke("batch", str(file), "--name", "b", "--via", "file").code == 0
    return store


def test_answers_has_a_row_for_each_record(history: Store) -> None:
    rows = rows_of(history, "SELECT * FROM answers ORDER BY id")
    assert [row["question"] for row in rows] == ["Who am I?", "Good", "[[status=400]] Bad"]
    first, second, third = rows
    record = history.get(1)
    day = record.created_at.date().isoformat()
    assert (first["tags"], first["requested_model"]) == ("a, it's ü", "test-model")
    assert (str(first["day"]), str(first["created_at"])[:10]) == (day, day)
    assert float(first["seconds"]) == (record.latency_ms or 0) / 1000
    assert (second["batch_name"], second["custom_id"], second["tags"]) == ("b", "r1", None)
    assert (third["status"], third["error_kind"]) == ("failed", "provider-refused")


def test_answers_times_are_those_of_the_record(history: Store) -> None:
    (row,) = rows_of(history, "SELECT created_at, answered_at FROM answers WHERE id = 1")
    record = history.get(1)
    if history.sqlite:
        text = record.created_at.replace(tzinfo=None).isoformat(timespec="microseconds")
        assert row["created_at"] == f"{text}Z"
        assert row["answered_at"][-1] == "Z"
    else:
        assert dict(row) == {"created_at": record.created_at, "answered_at": record.answered_at}


def test_batch_results_has_a_row_for_each_item(history: Store) -> None:
    rows = rows_of(history, "SELECT * FROM batch_results ORDER BY position")
    assert [(row["custom_id"], row["status"]) for row in rows] == [
        ("r1", "answered"),
        ("r2", "failed"),
        ("r3", "waiting"),
    ]
    assert [row["answer"] for row in rows] == ["Answer to: Good", None, None]
    assert [row["record_id"] for row in rows] == [2, 3, None]
    assert rows[2]["question"] == "New"
    assert re.sub(r"\s", "", rows[2]["row_data"]) == '["r3","New"]'


def test_views_have_the_documented_columns(store: Store) -> None:
    with store.reading() as connection:
        inspector = sa.inspect(connection)
        for name, (columns, _) in views.VIEWS.items():
            assert [item["name"] for item in inspector.get_columns(name)] == list(columns)


def test_queries_of_the_page_run(history: Store) -> None:
    (block,) = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    queries = [query for query in block.split(";") if query.strip()]
    assert len(queries) == 3
    text = "SELECT day, count(*), sum(cost_usd) FROM answers GROUP BY day"
    assert text in PAGE.read_text()
    for query in (*queries, text):
        rows_of(history, query.replace("'reviews'", "'b'"))


def test_views_exist_at_the_newest_revision_only(store: Store) -> None:
    assert view_names(store) == set(views.VIEWS)
    with store.migrating() as connection:
        migrate.downgrade(connection, "0013")
    assert view_names(store) == set()
    with store.migrating() as connection:
        migrate.upgrade(connection)
    assert view_names(store) == set(views.VIEWS)


def test_views_do_not_hinder_migrations_that_change_their_tables(history: Store) -> None:
    before = rows_of(history, "SELECT id, question, title FROM answers ORDER BY id")
    # 0013 removes a column of the view, and 0012 a table of an earlier one.
    with history.migrating() as connection:
        migrate.downgrade(connection, "0011")
    with history.migrating() as connection:
        migrate.upgrade(connection)
    assert rows_of(history, "SELECT id, question, title FROM answers ORDER BY id") == before


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_sql_of_a_migration_drops_and_creates_the_views(
    dialect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate.print_migration_sql(f"{dialect}://", "0011", "head")
    sql = capsys.readouterr().out
    assert sql.index("DROP VIEW IF EXISTS answers") < sql.index("CREATE TABLE batch_part")
    assert sql.index("ADD COLUMN rating") < sql.index("CREATE VIEW answers AS")
    migrate.print_migration_sql(f"{dialect}://", migrate.head_revision(), "0011")
    sql = capsys.readouterr().out
    assert "DROP VIEW IF EXISTS answers" in sql
    assert "CREATE VIEW" not in sql


def test_views_can_be_read_by_sqlite3_itself(home: Path) -> None:
    Store.open(f"sqlite:///{home / 'history.db'}").close()
    with sqlite3.connect(home / "history.db") as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (0,)
    connection.close()
