"""`qa list`: the history, oldest first and newest last, like a log."""

from enum import StrEnum
from typing import Annotated

import typer

from qacli.cli.options import AsJson, Verbose
from qacli.cli.terminal import Terminal
from qacli.config import load_settings
from qacli.exchange import MAX_ID, Status, now
from qacli.times import moment

EPILOG = (
    "\b\nExamples:\n"
    "  qa list\n"
    "  qa list --search 'what? \"exact phrase\"' --since 2d --tag good\n"
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


class Order(StrEnum):
    """Which come first."""

    OLDEST = "oldest"
    NEWEST = "newest"
    BEST = "best"


def list_records(  # noqa: PLR0913 - one parameter an option
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many; 0 is all.")] = 20,
    after: Annotated[
        int | None, typer.Option(help="Only records after this id, from the oldest on.")
    ] = None,
    before: Annotated[int | None, typer.Option(help="Only records before this id.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", "-s", help='Plain words and "phrases".')
    ] = None,
    since: Annotated[str | None, typer.Option(help="Asked since: 2d, 3h, 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(help="Asked before; as --since.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Answered by it.")] = None,
    status: Annotated[Status | None, typer.Option(help="In this state.")] = None,
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None,
    system: Annotated[str | None, typer.Option(help="With this in the system prompt.")] = None,
    follows: Annotated[int | None, typer.Option(help="Following up this record.")] = None,
    min_cost: Annotated[
        float | None, typer.Option(help="US dollars that it cost at least.")
    ] = None,
    order: Annotated[
        Order | None, typer.Option(help="Else the newest, the newest last; a search, best first.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.TABLE,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """List the newest records, the newest last, or those that a search and filters choose."""
    from qacli.cli.history import counted, open_history
    from qacli.cli.render import one_line, print_records
    from qacli.outbox import Outbox
    from qacli.store.filters import Filter

    terminal = Terminal.of_process(verbose=verbose)
    settings, clock = load_settings(), now()
    only = Filter(
        search=search,
        since=moment(since, clock) if since else None,
        until=moment(until, clock) if until else None,
        model=model,
        status=status,
        tag=tag,
        system=system,
        follows_id=follows,
        min_cost=min_cost,
    )
    store = open_history(settings, terminal)
    if search is not None and order in {None, Order.BEST} and after is None and before is None:
        records = iter(store.search(only, limit or MAX_ID))
    elif order is Order.OLDEST or (order is None and (after is not None or not limit)):
        records = store.walk(after=after, before=before, limit=limit or None, only=only)
    else:
        page = store.page(
            limit=limit or MAX_ID, after=after, before=before, newest_first=True, only=only
        )
        records = iter(page if order is Order.NEWEST else page[::-1])
    how = Format.JSON if as_json else output
    print_records(records, how, terminal, search, narrowed=only != Filter())
    if waiting := Outbox(settings.outbox_path).waiting():
        terminal.note(f"Still being asked: {counted(len(waiting), 'question')}.")
        for entry in waiting:
            asked = one_line(entry.ask.question)
            terminal.note(f"  {entry.ask.created_at.astimezone():%H:%M:%S}  {asked}")
