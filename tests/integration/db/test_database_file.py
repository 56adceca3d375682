"""Commands on a database that is damaged, on a full disk, or not one of qa."""

from __future__ import annotations

import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from conftest import Invoke, Program
from journals import write_outcome, write_question

from qacli.db.engine import Database
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.errors import DatabaseError, SchemaMismatch
from qacli.recording.outbox import Outbox

if TYPE_CHECKING:
    from qacli.config.settings import Settings

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

# Mount a small disk in a namespace, copy the history to it, and fill it.
MOUNTED = (
    'mount -t tmpfs -o size=2m none "$1" && cp -a "$2"/. "$1" && '
    '(cat /dev/zero > "$1/fill" 2> /dev/null; true) && shift 2 && exec "$@"'
)


@dataclass
class FullDisk(Program):
    """`qa` with its history on a full disk."""

    disk: str = ""
    origin: str = ""

    @property
    def command(self) -> list[str]:
        return [*mounted(self.disk, self.origin), *super().command]


def mounted(disk: str, origin: str) -> list[str]:
    return ["unshare", "-rm", "sh", "-c", MOUNTED, "sh", disk, origin]


@pytest.fixture
def history(database_url: str) -> Path:
    """A history with one record."""
    store = Store.open(database_url)
    outcome = Outcome(status=Status.ANSWERED, answer="You are here.")
    store.upsert(Question(question="Who am I?", params={"model": "m"}), outcome)
    store.close()
    return Path(database_url.removeprefix("sqlite:///"))


@pytest.fixture
def full_disk(qa: Program, history: Path, tmp_path: Path) -> FullDisk:
    disk, nothing = tmp_path / "disk", tmp_path / "nothing"
    disk.mkdir()
    nothing.mkdir()
    try:
        command = [*mounted(str(disk), str(nothing)), "true"]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system mounts nothing for a test")
    env = {**qa.env, "DATABASE_URL": f"sqlite:///{disk / history.name}"}
    return FullDisk(env, disk=str(disk), origin=str(history.parent))


@on_sqlite
@pytest.mark.parametrize("arguments", [["list"], ["show", "last"], ["export"]], ids=" ".join)
def test_list_on_a_full_disk_works_with_a_pending_answer(
    full_disk: FullDisk, history: Path, arguments: list[str]
) -> None:
    journal = Outbox(history.with_name("history.db.outbox")).open()
    ask = Question(question="And you?")
    write_question(journal, ask)
    write_outcome(journal, ask.uid, Outcome(status=Status.ANSWERED, answer="x" * 10_000))
    journal.close()
    done = full_disk(*arguments)
    assert (done.code, "here." in done.out) == (0, True)
    assert done.err.count("\n") == 1
    assert "Make room on the disk" in done.err
    assert "The outbox keeps 1 question" in done.err


@on_sqlite
def test_tag_on_a_full_disk_advises_to_make_room(full_disk: FullDisk) -> None:
    done = full_disk("tag", "1", "+" + "a" * 9000)
    assert (done.code, done.out) == (7, "")
    assert "Make room on the disk" in done.err
    assert "running" not in done.err


@on_sqlite
@pytest.mark.parametrize("damage", ["no database", "a page of it"])
def test_list_damaged_file_gives_advice_on_the_file(
    invoke: Invoke, history: Path, damage: str
) -> None:
    if damage == "no database":
        history.write_bytes(b"a letter to a friend\n" * 500)
    else:
        with history.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096 * 8)
    done = invoke("list")
    assert (done.code, done.out) == (7, "")
    assert "The file is damaged, or not a history of qa" in done.err
    assert "running" not in done.err
    assert "qa migrate" not in done.err


COMMANDS = ("list", "rm 1", "migrate status", "migrate --wait 600", "migrate to head")


def make_tables(database_url: str, *statements: str) -> None:
    engine = sa.create_engine(database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


FOREIGN = {
    "tables": ["CREATE TABLE responses (id INTEGER)"],
    "tables and another program's revision": [
        "CREATE TABLE responses (id INTEGER)",
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('ae1027a6acf')",
    ],
    "a revision that is ours by chance": [
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('0001')",
    ],
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_commands_refuse_the_database_of_another_program(
    settings: Settings, home: Path, kind: str
) -> None:
    url = str(settings.database_url)
    (home / "data").mkdir()
    make_tables(url, *FOREIGN[kind])
    with pytest.raises(SchemaMismatch, match="is not a history of qa"):
        Store.open(settings.database)
    qa = Invoke({"DATABASE_URL": url})
    for command in COMMANDS if kind == "tables" else ["migrate"]:
        done = qa(*command.split())
        assert (done.code, done.out, done.err.count("\n")) == (7, "", 1), command
        assert "qa import --from llm FILE" in done.err
    make_tables(url, "CREATE TABLE question_answer (id INTEGER)")  # it is not there


def test_migrate_own_schema_of_a_shared_postgresql_works(
    postgres_url: str,
) -> None:
    make_tables(postgres_url, *FOREIGN["tables"], "CREATE SCHEMA qa")
    separator = "&" if "?" in postgres_url else "?"
    qa = Invoke({"DATABASE_URL": f"{postgres_url}{separator}options=-csearch_path%3Dqa"})
    assert qa("migrate").code == 0
    assert qa("list").code == 0


def test_migrate_after_downgrade_to_base_works(invoke: Invoke) -> None:
    assert invoke("migrate").code == 0
    assert invoke("migrate", "to", "base", "--yes").code == 0
    assert invoke("migrate").code == 0


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        *(("SQLITE_BUSY", "Another program is writing"), ("SQLITE_FULL", "Make room")),
        *(("SQLITE_IOERR_READ", "no faults"), ("SQLITE_ERROR", "is a history of qa")),
    ],
)
def test_database_error_of_sqlite_gives_advice_on_the_file(name: str, advice: str) -> None:
    error = sqlite3.OperationalError("as SQLite has it")
    error.sqlite_errorname = name
    database = Database("sqlite:///history.db")
    with pytest.raises(DatabaseError) as caught, database.transaction():
        raise sa.exc.OperationalError(None, None, error)
    assert advice in caught.value.todo
