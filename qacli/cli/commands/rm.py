"""`qa rm`: remove records by their ids."""

from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, parse_record_id
from qacli.cli.settings import load_settings
from qacli.errors import NotFound

EPILOG = "\b\nExamples:\n  qa rm 12\n  qa rm 12 13 14\n  qa rm last"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(rm)


def rm(
    context: typer.Context,
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID", help="Record ids; last for the newest; -2 for the one before it."
        ),
    ],
) -> None:
    """Remove records. Their ids are not used again.

    No trace of them stays in a SQLite file.
    """
    from qacli.cli.store import count_noun, open_store, record_at
    from qacli.db.purge import purge_deleted
    from qacli.db.record_queries import record_not_found

    console = Console.from_context(context)
    numbers = [parse_record_id(value) for value in ids]
    store = open_store(load_settings(console), console)
    # Resolve `last` before any removal, which would make another record the last.
    numbers = [number if number >= 0 else record_at(store, number).id or 0 for number in numbers]
    removed, missing = 0, []
    for record_id in dict.fromkeys(numbers):
        try:
            store.remove(record_id)
            removed += 1
        except NotFound:
            missing.append(record_id)
    if removed:
        purge_deleted(store, shrink=False)
        console.info(f"Removed: {count_noun(removed, 'record')}.")
    if missing:
        raise record_not_found(*missing)
