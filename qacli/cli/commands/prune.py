"""`qa prune`: remove old records."""

from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.dates import parse_when
from qacli.domain import now

EPILOG = (
    "\b\nExamples:\n"
    "  qa prune --older-than 90d                 count what would be removed\n"
    "  qa prune --older-than 90d --yes\n"
    "  qa prune --older-than 2026-01-01 --keep-tagged --yes"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(prune)


def prune(
    context: typer.Context,
    *,
    older_than: Annotated[
        str, typer.Option(metavar="WHEN", help="Age or date: 90d, 12w, 2026-01-01.")
    ],
    keep_tagged: Annotated[
        bool, typer.Option("--keep-tagged", help="Keep records that have a tag.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Delete instead of only counting.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old records; without --yes, only count them.

    No trace of them stays in a SQLite file, and the file shrinks.
    """
    from qacli.cli.store import count_noun, open_store
    from qacli.db.filters import Filter
    from qacli.db.purge import delete_matching

    console = Console.from_context(context)
    only = Filter(until=parse_when(older_than, now()), untagged=keep_tagged)
    store = open_store(load_settings(console), console)
    number = delete_matching(store, only) if yes else store.count(only)
    if as_json:
        console.print_json({"records": number, "removed": yes})
    elif yes:
        console.print(f"Removed: {count_noun(number, 'record')}.")
    else:
        console.print_message(
            f"Would remove: {count_noun(number, 'record')}. Add --yes to remove them."
        )
