"""`qa list`: the history, oldest first and newest last, like a log."""

from enum import StrEnum
from typing import Annotated

import typer

from qacli.cli.options import AsJson, Verbose
from qacli.cli.terminal import Terminal
from qacli.config import load_settings

EPILOG = (
    "\b\nExamples:\n"
    "  qa list\n"
    "  qa list --limit 100 --after 250\n"
    "  qa list --format jsonl --limit 0 > history.jsonl"
)


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog=EPILOG)(list_records)


def list_records(  # noqa: PLR0913 - one parameter an option
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many; 0 is all.")] = 20,
    after: Annotated[
        int | None, typer.Option(help="Only records after this id, from the oldest on.")
    ] = None,
    before: Annotated[int | None, typer.Option(help="Only records before this id.")] = None,
    output: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.TABLE,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """List the newest records, or those after an id; the newest is last."""
    from qacli.cli.history import counted, open_history
    from qacli.cli.render import one_line, print_records
    from qacli.outbox import Outbox

    terminal = Terminal.of_process(verbose=verbose)
    settings = load_settings()
    store = open_history(settings, terminal)
    if after is None and limit:
        records = iter(store.page(limit=limit, before=before, newest_first=True)[::-1])
    else:
        records = store.walk(after=after, before=before, limit=limit or None)
    print_records(records, Format.JSON if as_json else output, terminal)
    if waiting := Outbox(settings.outbox_path).waiting():
        terminal.note(f"Still being asked: {counted(len(waiting), 'question')}.")
        for entry in waiting:
            terminal.note(
                f"  {entry.ask.created_at.astimezone():%H:%M:%S}  {one_line(entry.ask.question)}"
            )
