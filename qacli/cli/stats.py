"""`qa stats`: what has been asked, in numbers."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.options import AsJson
from qacli.cli.terminal import Terminal
from qacli.config import load_settings
from qacli.exchange import now
from qacli.times import moment

if TYPE_CHECKING:
    from qacli.store.stats import Row

EPILOG = (
    "\b\nExamples:\n"
    "  qa stats                      by day\n"
    "  qa stats --by model --since 30d\n"
    "  qa stats --by tag --json"
)
BAR = 30
BY = ("day", "model", "tag", "batch")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(stats)


def stats(
    *,
    by: Annotated[str, typer.Option(help="day, model, tag or batch.")] = "day",
    since: Annotated[str | None, typer.Option(help="Asked since: 2d, 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(help="Asked before; as --since.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count questions, tokens, cost and latency, by day, model, tag or batch."""
    from qacli.cli.history import open_history
    from qacli.store.filters import Filter
    from qacli.store.stats import By
    from qacli.store.stats import stats as numbers

    if by not in BY:
        raise typer.BadParameter(f"{by!r} is not one of {', '.join(BY)}.", param_hint="--by")
    terminal, clock = Terminal.of_process(), now()
    only = Filter(
        since=moment(since, clock) if since else None,
        until=moment(until, clock) if until else None,
    )
    rows = numbers(open_history(load_settings(), terminal), By(by), only)
    if as_json:
        terminal.json([asdict(row) for row in rows])
    elif not rows:
        terminal.note("There is nothing to count.")
    else:
        _print(rows, by, terminal)


def _print(rows: "list[Row]", by: str, terminal: Terminal) -> None:
    most = max(row.records for row in rows)
    width = max(len(by), *(len(row.name) for row in rows))
    head = (
        f"{by:<{width}}  {'asked':>7}  {'answered':>8}  {'tokens':>15}  {'USD':>9}  {'mean s':>6}"
    )
    terminal.line(head)
    for row in rows:
        tokens = f"{row.prompt_tokens:,}+{row.completion_tokens:,}"
        cost = "unpriced" if row.cost_usd is None else f"{row.cost_usd:.4f}"
        mean = "" if row.latency_ms is None else f"{row.latency_ms / 1000:.1f}"
        bar = "█" * max(round(row.records / most * BAR), 1)
        terminal.line(
            f"{row.name:<{width}}  {row.records:>7,}  {row.answered:>8,}  {tokens:>15}  "
            f"{cost:>9}  {mean:>6}  {bar}"
        )
