"""How alembic reaches the database: the connection that qa gives it, or the configured one."""

import logging
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import context
from sqlmodel import SQLModel

from qacli.db import extra_models, migrate, models, views

assert models.QuestionAnswer  # noqa: S101 - imported for the tables that it registers
assert extra_models.BatchWorker  # noqa: S101 - likewise


def number(_context: Any, _revision: Any, directives: list[Any]) -> None:  # noqa: ANN401 - alembic's
    """Name a new revision by the next number: their order is the order of their names."""
    for directive in directives:
        directive.rev_id = f"{int(migrate.head_revision()) + 1:04}"


def plainly(kind: str, item: Any, context: Any) -> str | bool:  # noqa: ANN401 - alembic's
    """Write our column types into a new revision as they are today, not by our names for them."""
    if kind != "type":
        return False
    if isinstance(item, models.UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if isinstance(item, sa.Enum):
        return f"sa.String({item.length})"
    if isinstance(item, models.Json):
        context.imports.add("from sqlalchemy.dialects.postgresql import JSONB")
        return 'sa.JSON().with_variant(JSONB(), "postgresql")'
    return False


def modelled(_item: object, name: str | None, *_more: object) -> bool:
    """Whether a difference is for autogenerate to see."""
    return not migrate.is_manual(name)


OPTIONS: dict[str, Any] = {
    "target_metadata": SQLModel.metadata,
    "render_as_batch": True,  # SQLite cannot alter most of a table in place
    "process_revision_directives": number,
    "render_item": plainly,
    "include_object": modelled,
}


def configured_database() -> str:
    """Return the database of the settings; log that a `.env` is ignored, where one is."""
    from qacli.config.loader import load_settings

    settings = load_settings()
    if settings.ignored_env_file is not None:
        logging.getLogger("qa.config").warning("%s", settings.ignored_env_file.notice)
    return settings.database


def run_offline() -> None:
    """Print the SQL."""
    url = context.config.get_main_option("sqlalchemy.url") or configured_database()
    context.configure(url=url, literal_binds=True, dialect_opts={"paramstyle": "named"}, **OPTIONS)
    with context.begin_transaction():
        run_without_views(context.get_revision_argument)


def run_without_views(revision: Callable[[], Any]) -> None:
    """Run the migrations, which could not change a table that a view needs.

    Args:
        revision: Return the revision of the database after the migrations.
    """
    for statement in views.drop_statements():
        context.execute(statement)
    context.run_migrations()
    if revision() == migrate.head_revision():
        for statement in views.create_statements(context.get_context().dialect.name):
            context.execute(statement)


def run_on(connection: sa.Connection) -> None:
    """Run the pending migrations, one process at a time."""
    context.configure(connection=connection, **OPTIONS)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(migrate.POSTGRES_LOCK)))
        run_without_views(context.get_context().get_current_revision)


if context.is_offline_mode():
    run_offline()
elif (connection := context.config.attributes.get("connection")) is not None:
    run_on(connection)
else:
    from qacli.db.records import Store

    with Store(configured_database()).migrating() as transaction:
        run_on(transaction)
