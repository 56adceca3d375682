"""`qa migrate`: the schema of the history."""

from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.command import App
from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.errors import DatabaseError, InvalidRequest, SchemaMismatch
from qacli.redaction import without_password

if TYPE_CHECKING:
    from qacli.db.records import Store

EPILOG = (
    "\b\nExamples:\n"
    "  qa migrate                    to the newest revision\n"
    "  qa migrate --wait 60          wait for a database that is still starting\n"
    "  qa migrate status             current revision and pending ones\n"
    "  qa migrate to 0001            up or down; base removes the schema\n"
    "  qa migrate --sql              print the SQL instead of running it\n"
    '  qa migrate new --message "Add ..."'
)

ADVICE_ON_REFUSAL = (
    "The server runs: check the user, the password and the name of the database. The PostgreSQL of "
    "docker compose keeps the POSTGRES_PASSWORD of its first start; docs/deployment.md has the "
    "command that changes it."
)

AsSql = Annotated[bool, typer.Option("--sql", help="Print the SQL instead of running it.")]

commands = App()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="migrate", epilog=EPILOG)


@commands.callback(invoke_without_command=True)
def migrate(
    context: typer.Context,
    *,
    sql: AsSql = False,
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Wait for a database that is still starting."),
    ] = 0,
) -> None:
    """Bring the database's schema to the newest revision."""
    if context.invoked_subcommand is None:
        console = Console.from_context(context)
        _wait_for_database(console, wait)
        _migrate_to(console, "head", sql=sql, confirmed=True)


@commands.command()
def status(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the revision of the schema and those still to apply."""
    from qacli.db import migrate

    console = Console.from_context(context)
    store = _store(console)
    revision = store.revision() if store.exists() else None
    pending = migrate.pending_revisions(revision)
    if as_json:
        console.print_json(
            {"current": revision, "head": migrate.head_revision(), "pending": pending}
        )
        return
    console.print(f"database  {without_password(store.url)}")
    console.print(f"current   {revision or 'base (no schema yet)'}")
    is_known = revision is None or revision in migrate.revisions()
    unknown = "unknown: a newer qa made that revision; upgrade this one"
    console.print(f"pending   {(', '.join(pending) or 'nothing') if is_known else unknown}")


@commands.command()
def to(
    context: typer.Context,
    revision: Annotated[
        str, typer.Argument(metavar="REVISION", help="Revision number, head or base.")
    ],
    *,
    sql: AsSql = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Downgrade without confirmation.")
    ] = False,
) -> None:
    """Upgrade or downgrade to a revision. A downgrade loses the data of newer columns."""
    _migrate_to(Console.from_context(context), revision, sql=sql, confirmed=yes)


@commands.command()
def new(
    context: typer.Context,
    message: Annotated[str, typer.Option(metavar="TEXT", help="Description of the revision.")],
) -> None:
    """Write a new revision from the changed tables, for developers."""
    from qacli.db import migrate

    if not migrate.in_checkout():
        raise InvalidRequest(
            "New revisions are made in the source of qa, and this is an installed copy.",
            "Run it in a checkout: uv run qa migrate new --message ...",
        )
    console = Console.from_context(context)
    with _store(console).migrating() as connection:
        migrate.upgrade(connection)
        path = migrate.new_revision(connection, message)
    console.print(str(path))


def _migrate_to(console: Console, revision: str, *, sql: bool, confirmed: bool) -> None:
    from qacli.db import migrate

    target = migrate.resolve_revision(revision)
    store = _store(console)
    current = store.revision() if store.exists() else None
    if sql:
        if target != (current or "base"):
            migrate.print_migration_sql(store.url, current, target)
        return
    down = current is not None and migrate.is_downgrade(current, target)
    if down and not confirmed:
        _confirm(
            console, f"A downgrade from {current} to {target} loses the data of newer columns."
        )
    with store.migrating() as connection:
        (migrate.downgrade if down else migrate.upgrade)(connection, target)
    if target == (current or "base"):
        console.print(f"Already at {target}.")
    else:
        console.print(f"From {current or 'base'} to {target}.")


def _wait_for_database(console: Console, seconds: float) -> None:
    """Return once the database answers, or the time is over; then the next step fails.

    Raises:
        DatabaseError: The server accepts connections, but not this one: waiting cannot help.
    """
    from time import monotonic, sleep

    from qacli.db.server_status import accepts_connections

    store, end = _store(console), monotonic() + seconds
    is_refused = False
    while monotonic() < end:
        try:
            if store.exists():
                store.revision()
        except SchemaMismatch:
            return
        except DatabaseError as error:
            if not store.sqlite and accepts_connections(store.url):
                if is_refused:
                    raise DatabaseError(error.what, ADVICE_ON_REFUSAL) from error
                # The server may have become ready after the first attempt.
                is_refused = True
                continue
            console.warning(
                f"Waiting for the database, {end - monotonic():.0f} s left: {error.what}"
            )
            sleep(min(2, max(end - monotonic(), 0)))
        else:
            return


def _confirm(console: Console, question: str) -> None:
    if console.stdin is None or not console.stdin.isatty():
        raise InvalidRequest(question, "Add --yes to confirm.")
    typer.confirm(f"{question} Go on?", abort=True, err=True)


def _store(console: Console) -> "Store":
    from qacli.db.records import Store

    return Store(load_settings(console).database)
