"""`qa rate`: keep a judgement of an answer."""

from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, RecordId, parse_rating
from qacli.cli.options import AsJson

EPILOG = (
    "\b\nExamples:\n  qa rate last good\n  qa rate 12 3\n  qa rate 12 none\n  qa list --rating good"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(rate)


def rate(
    context: typer.Context,
    record_id: RecordId,
    judgement: Annotated[
        str,
        typer.Argument(
            metavar="RATING", help="1 to 5, good (5) or bad (1); none removes the rating."
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Judge an answer; lists and statistics can select by the rating."""
    from qacli.cli.store import annotate

    rating = None if judgement == "none" else parse_rating(judgement)
    annotate(Console.from_context(context), record_id, as_json=as_json, rating=rating)
