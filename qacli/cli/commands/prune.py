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
    *,
    older_than: Annotated[
        str, typer.Option(metavar="WHEN", help="90d, 12w, or a date: what was asked before.")
    ],
    keep_tagged: Annotated[
        bool, typer.Option("--keep-tagged", help="Spare records that have a tag.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it, and not only say it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old records; without --yes, say how many there are.

    Every trace of them goes from a SQLite file, and the file becomes smaller.
    """
    from qacli.cli.store import count_noun, open_store
    from qacli.db.filters import Filter
    from qacli.db.purge import delete_matching

    console = Console.from_process()
    only = Filter(until=parse_when(older_than, now()), untagged=keep_tagged)
    store = open_store(load_settings(), console)
    number = delete_matching(store, only) if yes else store.count(only)
    if as_json:
        console.print_json({"records": number, "removed": yes})
    elif yes:
        console.print(f"Removed: {count_noun(number, 'record')}.")
    else:
        console.print(f"Would remove: {count_noun(number, 'record')}. Say --yes to do it.")
