"""`qa export`: write the history to stdout."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import with_filter_options
from qacli.cli.settings import load_settings

if TYPE_CHECKING:
    from qacli.db.filters import Filter

EPILOG = (
    "\b\nExamples:\n"
    "  qa export > history.jsonl\n"
    "  qa export --format md --tag good --since 30d > good.md\n"
    "  qa export --format html --thread last > thread.html"
)


class ExportFormat(StrEnum):
    """The format of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    MD = "md"
    HTML = "html"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", epilog=EPILOG)(with_filter_options(export))


def export(
    context: typer.Context,
    *,
    only: "Filter",
    output: Annotated[
        ExportFormat,
        typer.Option(
            "--format", metavar="FORMAT", help="jsonl (can be imported again), csv, md or html."
        ),
    ] = ExportFormat.JSONL,
) -> None:
    """Write records to stdout, oldest first."""
    from qacli.cli.store import open_selected

    console = Console.from_context(context)
    store, only = open_selected(load_settings(console), console, only)
    if output is ExportFormat.JSONL:
        console.print_lines(map(console.json_text, store.json_lines(only)))
        return
    if output is ExportFormat.HTML:
        from qacli.web.ui.document import html_document

        console.print_lines(html_document(store.dicts(only)))
        return
    from qacli.cli.formatters import print_documents

    print_documents(store.dicts(only), output.value, console)
