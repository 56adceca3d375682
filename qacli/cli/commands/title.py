"""`qa title`: name a record."""

from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, RecordId
from qacli.cli.options import AsJson
from qacli.validation import parse_title

EPILOG = '\b\nExamples:\n  qa title last "A name for the boat"\n  qa title 12 ""        remove it'


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(title)


def title(
    context: typer.Context,
    record_id: RecordId,
    text: Annotated[str, typer.Argument(metavar="TITLE", help='The title; "" removes it.')],
    *,
    as_json: AsJson = False,
) -> None:
    """Name a record, or a thread by its first record."""
    from qacli.cli.store import annotate

    annotate(Console.from_context(context), record_id, as_json=as_json, title=parse_title(text))
