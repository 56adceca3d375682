import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from qacli.config.settings import Settings
from qacli.db import extra_models, migrate, models, views
from qacli.db.engine import engine_for
from qacli.db.records import Store
from qacli.errors import DatabaseError, InvalidRequest, SchemaMismatch


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of an empty database, for a store."""
    return Settings(database_url=database_url).database


@pytest.fixture
def empty(url: str) -> Iterator[Store]:
    """A store whose database has no tables."""
    store = Store(url)
    yield store
    store.close()


def upgraded(store: Store, revision: str = "head") -> None:
    with store.migrating() as connection:
        migrate.upgrade(connection, revision)


def shape(connection: sa.Connection) -> dict[str, dict[str, Any]]:
    """Return the columns, indexes and constraints of each table, as the database has them."""
    inspector = sa.inspect(connection)

    def by_name(found: Any) -> list[dict[str, Any]]:
        return sorted(map(dict, found), key=lambda item: str(item["name"]))

    return {
        table: {
            "columns": [
                (item["name"], str(item["type"]), item["nullable"], item["default"])
                for item in inspector.get_columns(table)
            ],
            "primary key": inspector.get_pk_constraint(table),
            "unique": by_name(inspector.get_unique_constraints(table)),
            "checks": by_name(inspector.get_check_constraints(table)),
            "indexes": by_name(
                [
                    # The condition of a partial index is an expression, which equals only itself.
                    {**index, "dialect_options": {k: str(v) for k, v in options.items()}}
                    for index in inspector.get_indexes(table)
                    for options in [index.get("dialect_options", {})]
                    if not migrate.is_manual(index["name"])
                ]
            ),
            "foreign keys": inspector.get_foreign_keys(table),
        }
        for table in sorted(inspector.get_table_names())
        if table != "alembic_version" and not migrate.is_manual(table)
    }


def test_migrate_up_down_to_base_and_up_again_is_the_same(empty: Store) -> None:
    upgraded(empty)
    with empty.migrating() as connection:
        first = shape(connection)
        migrate.downgrade(connection, "base")
    assert empty.revision() is None
    with empty.migrating() as connection:
        assert shape(connection) == {}
    upgraded(empty)
    assert empty.revision() == migrate.head_revision()
    with empty.migrating() as connection:
        assert shape(connection) == first


def test_migrate_each_revision_goes_up_and_down(empty: Store) -> None:
    known = migrate.revisions()
    for revision in known:
        upgraded(empty, revision)
        assert empty.revision() == revision
    for revision in [*known[-2::-1], "base"]:
        with empty.migrating() as connection:
            migrate.downgrade(connection, revision)
        assert empty.revision() == (None if revision == "base" else revision)


def test_upgrade_of_the_current_schema_changes_nothing(empty: Store) -> None:
    upgraded(empty)
    upgraded(empty)
    assert empty.revision() == migrate.head_revision()


def test_migrations_match_the_models(empty: Store) -> None:
    upgraded(empty)
    with empty.migrating() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_object": lambda _item, name, *_more: not migrate.is_manual(name),
            },
        )
        assert extra_models.BatchWorker  # the import registers the tables
        assert compare_metadata(context, SQLModel.metadata) == []


def test_migrations_and_models_create_the_same_tables(empty: Store) -> None:
    upgraded(empty)
    with empty.migrating() as connection:
        migrated = shape(connection)
        for statement in views.drop_statements():
            connection.execute(sa.text(statement))
        if connection.dialect.name == "sqlite":
            connection.execute(sa.text("DROP TABLE question_answer_search"))
        SQLModel.metadata.drop_all(connection)
        assert shape(connection) == {}
        SQLModel.metadata.create_all(connection)
        modelled = shape(connection)
    assert [name for name, *_ in modelled["question_answer"]["columns"]] == list(
        models.QuestionAnswer.model_fields
    )
    assert migrated == modelled


def test_migrations_on_sqlite_never_reuse_ids(home: Path) -> None:
    url = f"sqlite:///{home / 'history.db'}"
    Store.open(url).close()
    with sqlite3.connect(home / "history.db") as connection:
        (made,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'question_answer'"
        ).fetchone()
    connection.close()
    assert "AUTOINCREMENT" in made


def test_migrations_on_postgresql_use_native_column_types(postgres_url: str) -> None:
    store = Store(Settings(database_url=postgres_url).database)
    upgraded(store)
    with store.migrating() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_name = 'question_answer'"
            )
        )
        types = {name: kind for name, kind in rows}  # noqa: C416 - rows are not tuples to dict
    store.close()
    assert types["id"] == "bigint"
    assert types["question"] == types["answer"] == types["error"] == "text"
    assert types["created_at"] == types["answered_at"] == "timestamp with time zone"
    assert types["params"] == types["tags"] == "jsonb"
    assert types["cost_usd"] == "double precision"
    assert types["prompt_tokens"] == types["latency_ms"] == types["follows_id"] == "bigint"


def test_head_revision_is_that_of_alembic() -> None:
    scripts = ScriptDirectory(str(migrate.migrations_path()))
    assert scripts.get_heads() == [migrate.head_revision()]
    assert [item.revision for item in scripts.walk_revisions()][::-1] == migrate.revisions()


def test_revisions_are_numbered_in_order() -> None:
    known = migrate.revisions()
    assert known == [f"{number:04}" for number in range(1, len(known) + 1)]
    for path in (migrate.migrations_path() / "versions").glob("[0-9]*_*.py"):
        assert f'revision = "{path.name.partition("_")[0]}"' in path.read_text()


def test_check_schema_current_is_accepted() -> None:
    migrate.check_schema(migrate.head_revision())


@pytest.mark.parametrize(
    ("revision", "what", "todo"),
    [
        (None, "The database has no schema yet.", "Run: qa migrate"),
        (
            "9999",
            "The database is at revision 9999, which this version of qa does not have.",
            "Upgrade qa.",
        ),
    ],
)
def test_check_schema_other_revision_raises(revision: str | None, what: str, todo: str) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        migrate.check_schema(revision)
    assert (caught.value.what, caught.value.todo) == (what, todo)


def test_check_schema_old_revision_raises(tmp_path: Path) -> None:
    # The installed module, as it will be with a second revision.
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    for name in ("0001_one.py", "0002_two.py"):
        (versions / name).touch()
    (tmp_path / "db").mkdir()
    copy = Path(shutil.copy(migrate.__file__, tmp_path / "db" / "migrate.py"))
    spec = spec_from_file_location("schema_copy", copy)
    assert spec is not None
    assert spec.loader is not None
    later = module_from_spec(spec)
    spec.loader.exec_module(later)
    assert later.head_revision() == "0002"
    assert later.pending_revisions("0001") == ["0002"]
    assert later.pending_revisions(None) == ["0001", "0002"]
    assert later.is_downgrade("0002", "0001")
    with pytest.raises(SchemaMismatch) as caught:
        later.check_schema("0001")
    assert caught.value.what == "The database is at revision 0001, not 0002."
    assert caught.value.todo == "Run: qa migrate"


def test_store_open_newer_database_raises_and_changes_nothing(empty: Store, url: str) -> None:
    upgraded(empty)
    with empty.migrating() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="9999"):
        Store.open(url)
    assert empty.revision() == "9999"


@pytest.mark.parametrize("name", ["1", "01", "0001"])
def test_resolve_revision_with_or_without_zeros_is_found(name: str) -> None:
    assert migrate.resolve_revision(name) == "0001"


def test_resolve_revision_head_and_base_are_found() -> None:
    assert migrate.resolve_revision("head") == migrate.head_revision()
    assert migrate.resolve_revision("base") == "base"


@pytest.mark.parametrize("name", ["", "0", "9999", "-1", "+1", "heads", "0001_question_answer"])
def test_resolve_revision_unknown_raises(name: str) -> None:
    with pytest.raises(InvalidRequest, match="no revision"):
        migrate.resolve_revision(name)


def test_is_downgrade_of_known_revisions() -> None:
    head = migrate.head_revision()
    assert migrate.is_downgrade(head, "base")
    assert not migrate.is_downgrade(None, head)
    assert not migrate.is_downgrade(head, "head")
    assert not migrate.is_downgrade(head, head)


def test_is_downgrade_from_an_unknown_revision_raises() -> None:
    with pytest.raises(SchemaMismatch):
        migrate.is_downgrade("9999", "head")


AT_ONCE = """
import os, sys
import alembic.command, alembic.config  # loaded before, so that all come to the database at once
from qacli.db import migrate
from qacli.db.records import Store
from qacli.domain import Outcome, Question

def open(url):
    Store.open(url).upsert(Question(question="q"), Outcome())

def upgrade(url):
    with Store(url).migrating() as connection:
        migrate.upgrade(connection)

number, work, url = int(sys.argv[1]), {"open": open, "upgrade": upgrade}[sys.argv[2]], sys.argv[3]
ready, go = os.pipe()
children = []
for _ in range(number):
    if not (child := os.fork()):
        os.close(go)
        os.read(ready, 1)
        code = 1
        try:
            work(url)
            code = 0
        except Exception as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    children.append(child)
os.close(go)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
"""


def at_once(number: int, work: str, url: str) -> None:
    """Open or upgrade a database in many processes at once; all must succeed."""
    command = [sys.executable, "-c", AT_ONCE, str(number), work, url]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_store_open_in_sixteen_processes_creates_one_history(home: Path) -> None:
    for attempt in range(2):
        url = f"sqlite:///{home / str(attempt) / 'new' / 'history.db'}"
        at_once(16, "open", url)
        store = Store.open(url)
        assert [record.id for record in store.page(limit=20)] == list(range(1, 17))
        store.close()


def test_store_open_creates_private_files(home: Path) -> None:
    Store.open(f"sqlite:///{home / 'private' / 'history.db'}").close()
    assert (home / "private").stat().st_mode & 0o777 == 0o700
    assert (home / "private" / "history.db").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(home / "private" / "history.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_store_open_unmigrated_postgresql_raises_and_keeps_it(postgres_url: str) -> None:
    url = Settings(database_url=postgres_url).database
    with pytest.raises(SchemaMismatch, match=r"no schema yet.*qa migrate"):
        Store.open(url)
    with engine_for(url).connect() as connection:
        assert sa.inspect(connection).get_table_names() == []


def test_upgrade_of_postgresql_in_four_processes_succeeds(postgres_url: str) -> None:
    url = Settings(database_url=postgres_url).database
    at_once(4, "upgrade", url)
    Store.open(url).close()


def test_upgrade_during_another_waits_for_its_commit(empty: Store) -> None:
    second = Store(empty.url)
    with ThreadPoolExecutor(1) as pool:
        with empty.migrating() as connection:
            migrate.upgrade(connection)
            waiting = pool.submit(upgraded, second)
            time.sleep(0.5)
            assert not waiting.done()
        waiting.result(30)
    assert second.revision() == migrate.head_revision()
    second.close()


def test_upgrade_failed_leaves_nothing(empty: Store) -> None:
    def fail() -> None:
        with empty.migrating() as connection:
            migrate.upgrade(connection)
            connection.execute(sa.text("SELECT * FROM no_such_table"))

    with pytest.raises(DatabaseError):
        fail()
    assert empty.revision() is None


@pytest.mark.parametrize(
    ("url", "typical"),
    [
        ("sqlite:////no/such/directory/history.db", "id INTEGER"),
        ("postgresql+psycopg2://u:p%40w@127.0.0.1:9/nothing", "id BIGSERIAL"),
    ],
)
def test_migration_sql_is_printed_without_a_database(
    url: str, typical: str, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate.print_migration_sql(url, None, migrate.head_revision())
    sql = capsys.readouterr().out
    assert "CREATE TABLE question_answer" in sql
    assert f"'{migrate.head_revision()}'" in sql[sql.rindex("version_num=") :]
    assert typical in sql
    migrate.print_migration_sql(url, migrate.head_revision(), "base")
    sql = capsys.readouterr().out
    assert "DROP TABLE question_answer" in sql
    assert "CREATE TABLE question_answer" not in sql


def test_migration_sql_creates_the_same_schema(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, migrated = home / "printed.db", home / "migrated.db"
    migrate.print_migration_sql(f"sqlite:///{printed}", None, "head")
    assert not printed.exists()
    with sqlite3.connect(printed) as connection:
        connection.executescript(capsys.readouterr().out)
    connection.close()
    Store.open(f"sqlite:///{migrated}").close()
    shapes = []
    for file in (printed, migrated):
        with engine_for(f"sqlite:///{file}").connect() as opened:
            shapes.append(shape(opened))
    assert shapes[0] == shapes[1]
    Store.open(f"sqlite:///{printed}").close()
