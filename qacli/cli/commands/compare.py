"""`qa compare`: the answers of records side by side, with their differences."""

from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, parse_record_id
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store
    from qacli.services.compare import Piece

EPILOG = (
    "\b\nExamples:\n"
    "  qa compare 12 15\n"
    "  qa compare last          the answers to the newest question of several models\n"
    "  qa compare 12 15 --json | jq '.[] | {model, similarity}'"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(compare)


def compare(
    context: typer.Context,
    record_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="Ids of records, last, or -2; one id for its group."),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Show answers side by side, with their differences.

    Their tokens, cost and time are shown too. With one id, all answers to its question are shown:
    those of qa ask -m A -m B, and of --again.
    """
    from qacli.cli.store import open_store
    from qacli.services.compare import compare_records

    console = Console.from_context(context)
    store = open_store(load_settings(console), console)
    records = _records(store, [parse_record_id(text) for text in record_ids])
    comparisons = compare_records(records)
    if as_json:
        documents = [record.to_dict() for record in records]
        for document, comparison in zip(documents, comparisons, strict=True):
            document["similarity"] = round(comparison.similarity, 4)
        documents[0]["similarity"] = 1  # the others are compared with the first
        console.print_json(documents)
        return
    texts = [comparison.pieces for comparison in comparisons]
    _print(records, texts, console)


def _records(store: "Store", numbers: list[int]) -> "list[QuestionAnswer]":
    """Return the records; of one alone, all that answer the same question.

    Raises:
        NotFound: There is no such record.
        InvalidRequest: The question has only one answer.
    """
    from qacli.cli.store import record_at
    from qacli.services.compare import same_question

    records = [record_at(store, number) for number in numbers]
    if len(records) == 1:
        [record] = records
        records = same_question(store, record)
        if len(records) < 2:  # noqa: PLR2004 - a comparison needs two
            raise InvalidRequest(
                f"Record {record.id} is the only answer to its question.",
                f"Name another record: qa compare {record.id} ID",
            )
    return records


def _print(
    records: "Sequence[QuestionAnswer]", texts: "Sequence[list[Piece]]", console: Console
) -> None:
    from qacli.cli.ask_models import columns_table, fits_columns
    from qacli.cli.formatters import console_on, print_heading
    from qacli.services.compare import figures

    headings = [f"#{record.id} {record.model or record.params.get('model')}" for record in records]
    lines = [", ".join(figures(record).values()) for record in records]
    if not fits_columns(console, len(records)):
        for heading, record, facts, parts in zip(headings, records, lines, texts, strict=True):
            if record is not records[0]:
                console.print("")
            print_heading(console, heading)
            console.print(f"{facts}\n")
            if console.is_terminal:
                console_on(console.stdout).print(_marked(parts))
            else:
                console.print("".join(text for text, _ in parts))
        return
    screen = console_on(console.stdout)
    table = columns_table(headings, screen.width)
    table.add_row(*lines, style="dim")
    table.add_row(*("" for _ in records))
    table.add_row(*(_marked(parts) for parts in texts))
    screen.print(table)


def _marked(parts: "list[Piece]") -> "Text":
    """Return a text in which the pieces that the other text does not have stand out."""
    from rich.text import Text

    from qacli.sanitize import sanitize

    text = Text()
    for piece, is_common in parts:
        text.append(sanitize(piece), style=None if is_common else "bold yellow")
    return text
