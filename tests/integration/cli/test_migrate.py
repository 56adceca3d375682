from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from conftest import Invoke, Program
from sqlalchemy import make_url

from qacli.config.settings import Settings
from qacli.db.engine import engine_for
from qacli.db.migrate import head_revision, revisions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import PostgresDatabases

ROOT = Path(__file__).resolve().parents[3]
HEAD = head_revision()
NEXT = f"{int(HEAD) + 1:04}"
AWAY = "postgresql://user@127.0.0.1:1/none"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def unmigrated(database_url: str) -> Invoke:
    """`qa` with a database that has no schema yet."""
    return Invoke({"DATABASE_URL": database_url})


@pytest.fixture
def unmigrated_process(unmigrated: Invoke) -> Program:
    """`unmigrated` as a process."""
    return Program(unmigrated.env)


def tables(database_url: str) -> set[str]:
    engine = engine_for(Settings(database_url=database_url).database)
    with engine.connect() as connection:
        found = set(sa.inspect(connection).get_table_names())
    engine.dispose()
    return found


def set_revision(database_url: str, revision: str) -> None:
    engine = engine_for(Settings(database_url=database_url).database)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :n"), {"n": revision})
    engine.dispose()


def test_migrate_up_and_down_prints_the_revisions(unmigrated: Invoke, database_url: str) -> None:
    qa = unmigrated
    before = json.loads(qa("migrate", "status", "--json").out)
    assert before == {"current": None, "head": HEAD, "pending": revisions()}
    assert qa("migrate").out == f"From base to {HEAD}.\n"
    assert qa("migrate").out == f"Already at {HEAD}.\n"
    assert "question_answer" in tables(database_url)
    after = json.loads(qa("migrate", "status", "--json").out)
    assert after == {"current": HEAD, "head": HEAD, "pending": []}

    refused = qa("migrate", "to", "base")
    assert (refused.code, refused.out) == (2, "")
    assert "--yes" in refused.err
    assert "question_answer" in tables(database_url)
    assert qa("migrate", "to", "base", "--yes").out == f"From {HEAD} to base.\n"
    assert "question_answer" not in tables(database_url)
    assert qa("migrate", "to", "1").out == "From base to 0001.\n"
    assert "question_answer" in tables(database_url)


def test_migrate_sql_is_printed_and_not_run(unmigrated: Invoke, home: Path) -> None:
    done = unmigrated("migrate", "--sql")
    assert done.code == 0
    assert "CREATE TABLE question_answer" in done.out
    assert "INSERT INTO alembic_version" in done.out
    status = json.loads(unmigrated("migrate", "status", "--json").out)
    assert status["current"] is None
    assert not (home / "data" / "history.db").exists()


@on_postgres
def test_migrate_printed_sql_creates_the_schema(unmigrated: Invoke, database_url: str) -> None:
    script = unmigrated("migrate", "--sql").out
    engine = engine_for(Settings(database_url=database_url).database)
    with engine.connect() as connection:
        connection.exec_driver_sql(script)
    engine.dispose()
    assert unmigrated("migrate").out == f"Already at {HEAD}.\n"


@on_sqlite
def test_migrate_to_an_unknown_revision_exits_2(unmigrated: Invoke, home: Path) -> None:
    done = unmigrated("migrate", "to", "0999")
    assert (done.code, done.out) == (2, "")
    assert "0999" in done.err
    assert "base, 0001" in done.err
    assert not (home / "data").exists()


@on_sqlite
def test_migrate_status_prints_text_and_creates_nothing(unmigrated: Invoke, home: Path) -> None:
    done = unmigrated("migrate", "status")
    assert done.code == 0
    assert "base (no schema yet)" in done.out
    assert not (home / "data").exists()


@on_postgres
def test_migrate_status_does_not_show_the_password(unmigrated: Invoke) -> None:
    done = unmigrated("migrate", "status", DATABASE_URL=AWAY.replace("user", "user:secret-pw"))
    assert (done.code, done.out) == (7, "")
    assert "secret-pw" not in done.err
    assert "Traceback" not in done.err


@on_postgres
def test_list_on_unmigrated_postgresql_exits_7(unmigrated: Invoke, database_url: str) -> None:
    done = unmigrated("list")
    assert (done.code, done.out) == (7, "")
    assert "qa migrate" in done.err
    assert tables(database_url) == set()


@on_postgres
def test_migrate_wait_for_a_missing_database_ends(unmigrated: Invoke) -> None:
    began = monotonic()
    done = unmigrated("migrate", "--wait", "2", DATABASE_URL=AWAY)
    assert done.code == 7
    assert 2 <= monotonic() - began < 6
    assert "Waiting for the database" in done.err


@on_postgres
def test_migrate_wait_for_a_refused_connection_fails_at_once(
    unmigrated: Invoke, database_url: str
) -> None:
    missing = database_url.replace("/qa_", "/missing_", 1)
    done = unmigrated("migrate", "--wait", "3600", DATABASE_URL=missing)
    assert done.code == 7
    assert "Waiting" not in done.err
    assert "check the user, the password" in done.err


@on_postgres
def test_migrate_wait_for_a_starting_server_waits(unmigrated: Invoke) -> None:
    # The reply to a startup message while the server starts: error 57P03 (PostgreSQL's protocol 3,
    # "ErrorResponse").
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    reply = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields

    class Starting(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.wfile.write(reply)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Starting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"postgresql://user@127.0.0.1:{server.server_address[1]}/name?sslmode=disable"
        done = unmigrated("migrate", "--wait", "0.2", DATABASE_URL=url)
        server.shutdown()
    assert done.code == 7
    assert "Waiting for the database" in done.err
    assert "check the user, the password" not in done.err


@on_postgres
@pytest.mark.parametrize("password", ["a/b#c?d@e:f%g&h=i $j\\k'l\"m", "ä[]{}|<>~`^!;*()+,"])
def test_migrate_password_in_pgpassword_may_have_any_character(
    unmigrated: Invoke, database_url: str, postgres_databases: PostgresDatabases, password: str
) -> None:
    name = make_url(database_url).database or ""
    user = f"user_{name}"
    escaped = password.replace("'", "''")
    postgres_databases.execute(
        "postgres",
        f"CREATE ROLE {user} LOGIN PASSWORD '{escaped}'",
        f"ALTER DATABASE {name} OWNER TO {user}",
    )
    with require_password(postgres_databases, user):
        url = database_url.replace("//postgres:@", f"//{user}@")
        assert user in url
        wrong = unmigrated("migrate", "--wait", "3600", DATABASE_URL=url, PGPASSWORD="wrong")
        done = unmigrated("migrate", "--wait", "3600", DATABASE_URL=url, PGPASSWORD=password)
    assert (wrong.code, "password authentication failed" in wrong.err) == (7, True)
    assert (done.code, done.out) == (0, f"From base to {HEAD}.\n")


@contextmanager
def require_password(databases: PostgresDatabases, user: str) -> Iterator[None]:
    """Let the server ask one user for a password; the others need none."""
    path = Path(str(databases.execute("postgres", "SHOW hba_file")[0][0]))
    rules = path.read_text()
    path.write_text(f"local all {user} scram-sha-256\n{rules}")
    try:
        databases.execute("postgres", "SELECT pg_reload_conf()")
        yield
    finally:
        path.write_text(rules)
        databases.execute("postgres", "SELECT pg_reload_conf()")


@on_sqlite
def test_commands_on_a_newer_schema_are_refused(unmigrated: Invoke, database_url: str) -> None:
    assert unmigrated("migrate").code == 0
    set_revision(database_url, "0999")
    for arguments in (["list"], ["ask", "x"]):
        done = unmigrated(*arguments, OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="http://127.0.0.1:1")
        assert "0999" in done.err or arguments[0] == "ask"
        assert done.code in {6, 7}
    status = unmigrated("migrate", "status")
    assert (status.code, "0999" in status.out) == (0, True)
    assert "pending   unknown: " in status.out


@on_sqlite
def test_migrate_of_a_newer_schema_is_refused(unmigrated: Invoke, database_url: str) -> None:
    assert unmigrated("migrate").code == 0
    set_revision(database_url, "0999")
    for arguments in (["migrate"], ["migrate", "to", "base", "--yes"]):
        done = unmigrated(*arguments)
        assert done.code == 7
        assert "0999" in done.err


def test_alembic_revision_creates_the_next_number(
    unmigrated_process: Program, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("qacli", "migrations"):
        shutil.copytree(ROOT / name, checkout / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    models = checkout / "qacli" / "db" / "models.py"
    added = "    mood: str | None = Field(default=None, sa_type=sa.Text)\n\n    def to_dict"
    models.write_text(models.read_text().replace("\n    def to_dict", added, 1))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "qacli", *arguments],
            cwd=checkout,
            env=unmigrated_process.environ(PYTHONPATH=str(checkout)),
            capture_output=True,
            timeout=60,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # The last line: alembic prints another one before it.
    made = Path(run("migrate", "new", "--message", "Add a mood").splitlines()[-1])
    assert made == checkout / "migrations" / "versions" / f"{NEXT}_add_a_mood.py"
    assert "mood" in made.read_text()
    assert run("migrate") == f"From {HEAD} to {NEXT}.\n"
    assert json.loads(run("migrate", "status", "--json"))["current"] == NEXT
    assert run("migrate", "to", HEAD, "--yes") == f"From {NEXT} to {HEAD}.\n"


@on_sqlite
def test_alembic_command_works_in_the_checkout(
    unmigrated_process: Program, database_url: str
) -> None:
    (Path(database_url.removeprefix("sqlite:///")).parent).mkdir()
    for arguments, part in (
        (["upgrade", "head"], ""),
        (["current"], f"{HEAD} (head)"),
        (["check"], ""),
    ):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("alembic")), *arguments],
            cwd=ROOT,
            env=unmigrated_process.environ(PYTHONDONTWRITEBYTECODE="1"),
            capture_output=True,
            timeout=60,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert part in done.stdout
    assert unmigrated_process("migrate").out == f"Already at {HEAD}.\n"
    assert os.path.getsize(database_url.removeprefix("sqlite:///")) > 0  # noqa: PTH202 - it is a name
