"""`qa stats`: count questions, tokens, cost and latency."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import with_filter_options
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.domain import GroupBy
from qacli.money import dollars

if TYPE_CHECKING:
    from qacli.db.filters import Filter
    from qacli.db.stats import StatsRow

EPILOG = (
    "\b\nExamples:\n"
    "  qa stats                      by day\n"
    "  qa stats --by month           or week, in local time\n"
    "  qa stats --by model --since 30d\n"
    "  qa stats --by tag --json\n"
    "  qa stats --by error --since 1d\n"
    "  qa stats --by endpoint"
)
BLOCK = "█"
MIN_NAME_WIDTH = 10
"""The least width of the first column, also on a narrow screen."""

MIN_COLUMNS = 3
"""The name and the numbers of questions and answers are always shown."""

MAX_BAR_WIDTH, MIN_BAR_WIDTH = 30, 5
"""With less room than the second there are no bars."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(with_filter_options(stats))


def stats(
    context: typer.Context,
    *,
    by: Annotated[
        GroupBy,
        typer.Option(
            metavar="COLUMN",
            help="Group by day, week, month, model, tag, batch, error, endpoint or rating.",
        ),
    ] = GroupBy.DAY,
    only: "Filter",
    as_json: AsJson = False,
) -> None:
    """Count questions, tokens, cost and latency, for example by day."""
    from qacli.cli.store import open_selected
    from qacli.db.stats import stats as count

    console = Console.from_context(context)
    store, only = open_selected(load_settings(console), console, only)
    rows = count(store, by, only)
    if as_json:
        console.print_json([asdict(row) for row in rows])
    elif not rows:
        console.info("There are no records to count.")
    else:
        _print(rows, by, console)


def _print(rows: "list[StatsRow]", by: str, console: Console) -> None:
    from qacli.cli.text_width import cell_width, fit_to_width

    # Few providers send these two, so they have columns only if there are any.
    has_cached = any(row.cached_tokens for row in rows)
    has_reasoning = any(row.reasoning_tokens for row in rows)
    table = [
        [by, "asked", "answered", "tokens", "USD", "mean s"]
        + ["cached"] * has_cached
        + ["reasoning"] * has_reasoning
    ]
    for row in rows:
        tokens = f"{row.prompt_tokens:,}+{row.completion_tokens:,}"
        cost = "unknown" if row.cost_usd is None else dollars(row.cost_usd)
        mean = "" if row.latency_ms is None else f"{row.latency_ms / 1000:.1f}"
        table.append(
            [row.name, f"{row.records:,}", f"{row.answered:,}", tokens, cost, mean]
            + [f"{row.cached_tokens:,}"] * has_cached
            + [f"{row.reasoning_tokens:,}"] * has_reasoning
        )
    widths = [max(cell_width(line[column]) for line in table) for column in range(len(table[0]))]
    columns = _columns(console)
    # A narrow screen has no room for the last columns: a broken line is not readable.
    while (
        len(widths) > MIN_COLUMNS
        and MIN_NAME_WIDTH + sum(widths[1:]) + 2 * (len(widths) - 1) > columns
    ):
        widths.pop()
    # The name of a batch or a tag can be wider than the screen.
    name_room = columns - sum(widths[1:]) - 2 * len(widths) - MIN_BAR_WIDTH
    widths[0] = min(widths[0], max(name_room, MIN_NAME_WIDTH))
    room = columns - sum(widths) - 2 * len(widths)
    maximum = max(row.records for row in rows)
    bars = [""] + [
        BLOCK * max(round(row.records / maximum * min(MAX_BAR_WIDTH, room)), 1) for row in rows
    ]
    for line, bar in zip(table, bars, strict=True):
        cells = [fit_to_width(line[0], widths[0])]
        cells += [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=False)]
        console.print("  ".join([*cells, bar] if room >= MIN_BAR_WIDTH else cells).rstrip())


def _columns(console: Console) -> int:
    """Return the width of the screen; a pipe has no limit."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if console.is_terminal else 1000
