"""`qa stats`: what has been asked, in numbers."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import with_filter_options
from qacli.cli.formatting import dollars
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.domain import GroupBy

if TYPE_CHECKING:
    from qacli.db.filters import Filter
    from qacli.db.stats import Row

EPILOG = (
    "\b\nExamples:\n"
    "  qa stats                      by day\n"
    "  qa stats --by model --since 30d\n"
    "  qa stats --by tag --json"
)
BLOCK = "█"
SHORTEST = 10
"""So wide a name is at least, whatever the screen is."""

FEWEST = 3
"""So many columns there are at least: the name, and what was asked and answered."""

BAR, LEAST = 30, 5
"""How long a bar is, and the room below which there is none."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(with_filter_options(stats))


def stats(
    context: typer.Context,
    *,
    by: Annotated[
        GroupBy, typer.Option(metavar="COLUMN", help="Group by day, model, tag or batch.")
    ] = GroupBy.DAY,
    only: "Filter",
    as_json: AsJson = False,
) -> None:
    """Count questions, tokens, cost and latency, by day or otherwise."""
    from qacli.cli.store import open_store
    from qacli.db.stats import stats as numbers

    console = Console.from_context(context)
    rows = numbers(open_store(load_settings(console), console), by, only)
    if as_json:
        console.print_json([asdict(row) for row in rows])
    elif not rows:
        console.info("There is nothing to count.")
    else:
        _print(rows, by, console)


def _print(rows: "list[Row]", by: str, console: Console) -> None:
    from qacli.cli.cells import cell_width, truncate_cells

    table = [(by, "asked", "answered", "tokens", "USD", "mean s")]
    for row in rows:
        tokens = f"{row.prompt_tokens:,}+{row.completion_tokens:,}"
        cost = "unpriced" if row.cost_usd is None else dollars(row.cost_usd)
        mean = "" if row.latency_ms is None else f"{row.latency_ms / 1000:.1f}"
        table.append((row.name, f"{row.records:,}", f"{row.answered:,}", tokens, cost, mean))
    widths = [max(cell_width(line[column]) for line in table) for column in range(len(table[0]))]
    columns = _columns(console)
    # On a narrow screen the last columns go: a broken line could not be read at all.
    while len(widths) > FEWEST and SHORTEST + sum(widths[1:]) + 2 * (len(widths) - 1) > columns:
        widths.pop()
    # A batch's name, or a tag, can be wider than the screen.
    most_of_it = columns - sum(widths[1:]) - 2 * len(widths) - LEAST
    widths[0] = min(widths[0], max(most_of_it, SHORTEST))
    room = columns - sum(widths) - 2 * len(widths)
    most = max(row.records for row in rows)
    bars = [""] + [BLOCK * max(round(row.records / most * min(BAR, room)), 1) for row in rows]
    for line, bar in zip(table, bars, strict=True):
        cells = [truncate_cells(line[0], widths[0])]
        cells += [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=False)]
        console.print("  ".join([*cells, bar] if room >= LEAST else cells).rstrip())


def _columns(console: Console) -> int:
    """How wide the screen is; a pipe is as wide as need be."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if console.is_terminal else 1000
