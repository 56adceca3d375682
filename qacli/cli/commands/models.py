"""`qa models`: the models that the endpoint serves."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.options import AsJson, NoPager
from qacli.cli.settings import load_settings

if TYPE_CHECKING:
    from qacli.config.settings import Settings
    from qacli.provider.model_list import ServedModel

EPILOG = (
    "\b\nExamples:\n"
    "  qa models\n"
    "  qa models luna\n"
    "  qa --profile work models --json\n"
    "\n\bPrices are in US dollars for a million tokens. An empty cell is unknown."
)
HEADER = ("MODEL", "CONTEXT", "INPUT", "OUTPUT", "SHUTDOWN")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(models)


def models(
    context: typer.Context,
    search: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Only models with this text in their name.")
    ] = None,
    *,
    no_pager: NoPager = False,
    as_json: AsJson = False,
) -> None:
    """List the models of the endpoint, with prices and shutdown dates."""
    from qacli.cli.pager import pager_output

    console = Console.from_context(context)
    settings = load_settings(console)
    rows = _read(settings, console)
    if search is not None:
        rows = [row for row in rows if search.lower() in row.id.lower()]
    if as_json:
        console.print_json([asdict(row) for row in rows])
    elif not rows:
        console.info("The endpoint lists no such model." if search else "The endpoint lists none.")
    else:
        with pager_output(console, settings, enabled=not no_pager) as screen:
            _print(rows, screen)


def _read(settings: "Settings", console: Console) -> "list[ServedModel]":
    """Return the models of the endpoint; on this machine it is the local one.

    Raises:
        QaError: There is no endpoint, or its list cannot be read.
    """
    from qacli.cli.model_names import fetch_models
    from qacli.cost import Pricing
    from qacli.provider.endpoint import resolve_endpoint
    from qacli.provider.model_list import ServedModel, served_models

    endpoint = resolve_endpoint(settings)
    if endpoint.weights is not None:
        return [ServedModel(endpoint.model)]
    prices = Pricing.load(settings.prices_path)
    return served_models(fetch_models(endpoint, settings, console), endpoint.name, prices)


def _print(rows: "list[ServedModel]", console: Console) -> None:
    """Print a table: aligned on a terminal, else separated by tabs and without a header."""
    table = [
        (
            row.id,
            "" if row.context_length is None else f"{row.context_length:,}",
            _price(row.input_usd),
            _price(row.output_usd),
            row.shutdown_date or "",
        )
        for row in rows
    ]
    if not console.is_terminal:
        console.print_lines("\t".join(row).rstrip("\t") for row in table)
        return
    from shutil import get_terminal_size

    from qacli.cli.text_width import cell_width, fit_to_width

    columns = [column for column in zip(HEADER, *table, strict=True) if any(column[1:])]
    widths = [max(map(cell_width, column)) for column in columns]
    room = get_terminal_size().columns
    # A broken line is not readable: a narrow screen has no room for the last columns.
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) > room:
        widths.pop()
    for name, *cells in zip(*columns[: len(widths)], strict=True):
        line = [fit_to_width(name, widths[0])]
        line += [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        console.print("  ".join(line).rstrip())


def _price(dollars: float | None) -> str:
    return "" if dollars is None else f"{dollars:.10g}"
