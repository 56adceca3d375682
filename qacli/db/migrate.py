"""Check and change the revision of the database's schema.

Alembic takes a quarter of a second to load, so the check that every command needs works without it:
revisions are numbered, and the newest is the last file name.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from qacli.errors import InvalidRequest, SchemaMismatch

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

MANUAL_INDEXES = {
    *("ix_question_answer_tags", "ix_question_answer_fingerprint_id"),
    *("uq_question_answer_caller_idempotency_key", "ix_question_answer_caller_id"),
    *("uq_question_answer_idempotency_key_without_caller", "ix_question_answer_context_digest"),
    *("ix_question_answer_provider_response_id", "ix_question_answer_repeats_id"),
    *("ix_question_answer_request_id", "ix_question_answer_asking"),
    *("ix_question_answer_system_id", "ix_question_answer_params_id"),
}
"""Indexes that only the migrations define."""

RECORD_TABLE = "question_answer"
VERSION_TABLE = "alembic_version"
MAX_LISTED_TABLES = 5
TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' "
    "ESCAPE '!'",
    # Without the tables of extensions and of other schemas, whose programs share the database.
    "postgresql": "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT EXISTS ("
    "SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')",
}
"""The queries for the names of the tables in a database, by its dialect."""

POSTGRES_LOCK = 0x7161_636C_69
"""The key of the advisory lock of migrations: any number that no other program uses."""


def migrations_path() -> Path:
    """Return the directory of the migrations, in the package or in a checkout next to it."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def in_checkout() -> bool:
    """Return whether this is a checkout, where migrations can be added."""
    return migrations_path().parent.name != Path(__file__).parents[1].name


def revisions() -> list[str]:
    """Return the numbers of the known revisions, the oldest first."""
    names = (path.name for path in (migrations_path() / "versions").glob("[0-9]*_*.py"))
    return sorted(name.partition("_")[0] for name in names)


def head_revision() -> str:
    """Return the newest known revision."""
    return revisions()[-1]


def current_revision(connection: "Connection") -> str | None:
    """Return the database's revision; None if it has no schema yet.

    Raises:
        SchemaMismatch: The database has tables of another program.
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
    names = ", ".join(others[:MAX_LISTED_TABLES])
    names += ", ..." if len(others) > MAX_LISTED_TABLES else ""
    reason = f"it has other tables ({names})" if others else f"its revision is {revision!r}"
    raise SchemaMismatch(
        f"The database is not a history of qa: {reason}.",
        "Set DATABASE_URL to a database that only qa uses, or in PostgreSQL, with "
        "?options=-csearch_path%3DNAME, to a schema that only qa uses; to import the history of "
        "llm: qa import --from llm FILE",
    )


def pending_revisions(revision: str | None) -> list[str]:
    """Return the revisions after this one; None means a database without a schema."""
    return [newer for newer in revisions() if revision is None or newer > revision]


def check_schema(revision: str | None) -> None:
    """Check that a database's revision is the one that this version of qa needs.

    Raises:
        SchemaMismatch: The schema is missing, older or newer.
    """
    if revision == head_revision():
        return
    if revision is not None and revision not in revisions():
        raise SchemaMismatch(
            f"The database is at revision {revision}, which this version of qa does not have.",
            "Upgrade qa.",
        )
    problem = (
        "has no schema yet"
        if revision is None
        else f"is at revision {revision}, not {head_revision()}"
    )
    raise SchemaMismatch(f"The database {problem}.", "Run: qa migrate")


def upgrade(connection: "Connection", revision: str = "head") -> None:
    """Migrate the database up to a revision."""
    from alembic import command

    command.upgrade(_config(connection), revision)


def downgrade(connection: "Connection", revision: str) -> None:
    """Migrate the database down to a revision; `base` removes the schema."""
    from alembic import command

    command.downgrade(_config(connection), revision)


def print_migration_sql(url: str, start: str | None, target: str) -> None:
    """Print the SQL of a migration without running it.

    Args:
        url: The database's URL, for its dialect; it is not opened.
        start: The revision to start from; None means an empty database.
        target: The revision to reach.
    """
    from alembic import command

    config = _config()
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    step = f"{start or 'base'}:{target}"
    (command.downgrade if is_downgrade(start, target) else command.upgrade)(config, step, sql=True)


def is_downgrade(start: str | None, target: str) -> bool:
    """Return whether the second revision is older than the first.

    Raises:
        SchemaMismatch: The database is at a revision that this version of qa does not have.
    """
    if start is not None and start not in revisions():
        check_schema(start)
    order = ["base", *revisions()]
    target = head_revision() if target == "head" else target
    return order.index(target) < order.index(start or "base")


def resolve_revision(revision: str) -> str:
    """Return the known revision for `head`, `base`, or a number with or without leading zeros.

    Raises:
        InvalidRequest: There is no such revision.
    """
    if revision in {"base", "head"}:
        return head_revision() if revision == "head" else revision
    for candidate in revisions():
        if candidate.lstrip("0") == revision.lstrip("0"):
            return candidate
    raise InvalidRequest(
        f"There is no revision {revision}.", f"The revisions are base, {', '.join(revisions())}."
    )


def is_manual(name: str | None) -> bool:
    """Return whether only the migrations, and no class, define a table or index of this name."""
    return name is not None and ("question_answer_search" in name or name in MANUAL_INDEXES)


def new_revision(connection: "Connection", message: str) -> Path:
    """Write a migration from the database's schema to that of the classes; return its path."""
    from alembic import command

    script = command.revision(_config(connection), message, autogenerate=True)
    assert script is not None and not isinstance(script, list)  # noqa: S101, PT018 - for the type checker
    return Path(script.path)


def _config(connection: "Connection | None" = None) -> "Config":
    from argparse import Namespace

    from alembic.config import Config

    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config
