"""The schema of the database: its revision, the ones that this program knows, the way between.

Alembic takes a quarter of a second to load, so what every command needs (is the schema current?)
is answered without it: revisions are numbered, and the newest is the last file name.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from qacli.errors import InvalidRequest, SchemaMismatch

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

MANUAL_REVISION = {
    *("ix_question_answer_tags", "ix_question_answer_fingerprint_id"),
    *("uq_question_answer_caller_idempotency_key", "ix_question_answer_caller_id"),
    "uq_question_answer_idempotency_key_without_caller",
}

RECORD_TABLE = "question_answer"
VERSION_TABLE = "alembic_version"
SHOWN_TABLES = 5
TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' "
    "ESCAPE '!'",
    # Not those of an extension, nor those of other schemas, which a database may be shared by.
    "postgresql": "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT EXISTS ("
    "SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')",
}
"""What finds the names of the tables in a database, by its dialect."""

# Any number, as long as nothing else in the database takes the same lock.
POSTGRES_LOCK = 0x7161_636C_69


def migrations_path() -> Path:
    """The migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def in_checkout() -> bool:
    """Whether new migrations can be added: this is the source, not an installed copy."""
    return migrations_path().parent.name != Path(__file__).parents[1].name


def revisions() -> list[str]:
    """The known revisions, oldest first, by number."""
    names = (path.name for path in (migrations_path() / "versions").glob("[0-9]*_*.py"))
    return sorted(name.partition("_")[0] for name in names)


def head_revision() -> str:
    """The newest known revision."""
    return revisions()[-1]


def current_revision(connection: "Connection") -> str | None:
    """Return the revision that the database is at; None where it has no schema yet.

    Raises:
        SchemaMismatch: It has tables, but they belong to another program.
    """
    import sqlalchemy as sa

    tables = set(connection.scalars(sa.text(TABLES[connection.dialect.name])))
    revision: str | None = None
    if VERSION_TABLE in tables:
        revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    has_records = RECORD_TABLE in tables
    others = sorted(tables - {VERSION_TABLE})
    if has_records if revision is not None else not others:
        return revision
    shown = ", ".join(others[:SHOWN_TABLES]) + (", ..." if len(others) > SHOWN_TABLES else "")
    reason = f"it has other tables ({shown})" if others else f"its revision is {revision!r}"
    raise SchemaMismatch(
        f"The database is not a history of qa: {reason}.",
        "Set DATABASE_URL to a database that qa has for itself, in PostgreSQL with "
        "?options=-csearch_path%3DNAME to a schema that it has for itself; the history of llm is "
        "read by: qa import --from llm FILE",
    )


def pending_revisions(revision: str | None) -> list[str]:
    """The revisions that a database at the given one lacks."""
    return [known for known in revisions() if revision is None or known > revision]


def check_schema(revision: str | None) -> None:
    """Refuse to work on another schema than this program's.

    Raises:
        SchemaMismatch: The schema is missing, older or newer.
    """
    if revision == head_revision():
        return
    if revision is not None and revision not in revisions():
        raise SchemaMismatch(
            f"The database is at revision {revision}, which this version of qa does not know.",
            "Upgrade qa.",
        )
    at = (
        "has no schema yet"
        if revision is None
        else f"is at revision {revision}, not {head_revision()}"
    )
    raise SchemaMismatch(f"The database {at}.", "Run: qa migrate")


def upgrade(connection: "Connection", revision: str = "head") -> None:
    """Bring the database up to a revision."""
    from alembic import command

    command.upgrade(_config(connection), revision)


def downgrade(connection: "Connection", revision: str) -> None:
    """Bring the database down to a revision, or to `base`: nothing at all."""
    from alembic import command

    command.downgrade(_config(connection), revision)


def migration_sql(url: str, start: str | None, target: str) -> None:
    """Print the SQL that goes from one revision to another, without running it.

    Args:
        url: The database, for its dialect; it is not opened.
        start: The revision that the SQL starts from; None is an empty database.
        target: The revision to reach.
    """
    from alembic import command

    config = _config()
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    step = f"{start or 'base'}:{target}"
    (command.downgrade if is_downgrade(start, target) else command.upgrade)(config, step, sql=True)


def is_downgrade(start: str | None, target: str) -> bool:
    """Whether the way from one revision to another goes down.

    Raises:
        SchemaMismatch: The database is at a revision that this program does not know.
    """
    if start is not None and start not in revisions():
        check_schema(start)
    order = ["base", *revisions()]
    target = head_revision() if target == "head" else target
    return order.index(target) < order.index(start or "base")


def resolve_revision(revision: str) -> str:
    """The known revision that a person named: `head`, `base`, or a number with or without zeros.

    Raises:
        InvalidRequest: There is none of that name.
    """
    if revision in {"base", "head"}:
        return head_revision() if revision == "head" else revision
    for known in revisions():
        if known.lstrip("0") == revision.lstrip("0"):
            return known
    raise InvalidRequest(
        f"There is no revision {revision}.", f"The revisions are base, {', '.join(revisions())}."
    )


def is_manual(name: str | None) -> bool:
    """Whether a table or index is made by the migrations alone: no class says what it is."""
    return name is not None and ("question_answer_search" in name or name in MANUAL_REVISION)


def new_revision(connection: "Connection", message: str) -> Path:
    """Write a new migration: the difference between the tables' classes and the database."""
    from alembic import command

    made = command.revision(_config(connection), message, autogenerate=True)
    assert made is not None and not isinstance(made, list)  # noqa: S101, PT018 - for the type checker
    return Path(made.path)


def _config(connection: "Connection | None" = None) -> "Config":
    from argparse import Namespace

    from alembic.config import Config

    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config
