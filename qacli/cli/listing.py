"""`qa list`: the history, oldest first and newest last, like a log."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.choosing import choosing
from qacli.cli.options import AsJson, Format, NoPager, Verbose
from qacli.cli.settings import load_settings
from qacli.cli.terminal import Terminal
from qacli.exchange import MAX_ID

if TYPE_CHECKING:
    from qacli.store.filters import Filter

EPILOG = (
    "\b\nExamples:\n"
    "  qa list\n"
    "  qa list --search 'what? \"exact phrase\"' --since 2d --tag good\n"
    "  qa list --limit 100 --after 250\n"
    "  qa list --format jsonl --limit 0 > history.jsonl"
)


class Order(StrEnum):
    """Which come first."""

    OLDEST = "oldest"
    NEWEST = "newest"
    BEST = "best"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog=EPILOG)(choosing(list_records))


def list_records(  # noqa: PLR0913 - one parameter an option
    *,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=0, help="How many; 0 is all.")
    ] = 20,
    after: Annotated[
        int | None,
        typer.Option(metavar="ID", help="Only records after this id, from the oldest on."),
    ] = None,
    before: Annotated[
        int | None, typer.Option(metavar="ID", help="Only records before this id.")
    ] = None,
    only: "Filter",
    order: Annotated[
        Order | None,
        typer.Option(
            help="Which are first; else the newest are last, and of a search the best first."
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.TABLE,
    no_pager: NoPager = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """List records: the newest, or what a search and filters choose."""
    from qacli.cli.history import counted, open_history
    from qacli.cli.pager import paged
    from qacli.cli.render import one_line, print_records
    from qacli.outbox import Outbox
    from qacli.store.filters import Filter

    terminal = Terminal.of_process(verbose=verbose)
    settings = load_settings()
    store = open_history(settings, terminal)
    if only.search is not None and order in {None, Order.BEST} and after is None and before is None:
        records = iter(store.search(only, limit or MAX_ID))
    elif order is Order.OLDEST or (order is None and (after is not None or not limit)):
        records = store.walk(after=after, before=before, limit=limit or None, only=only)
    else:
        page = store.page(
            limit=limit or MAX_ID, after=after, before=before, newest_first=True, only=only
        )
        records = iter(page if order is Order.NEWEST else page[::-1])
    how = Format.JSON if as_json else output
    with paged(terminal, settings, wanted=how is Format.TABLE and not no_pager) as screen:
        print_records(records, how, screen, only.search, narrowed=only != Filter())
    outbox = Outbox(settings.outbox_path)
    if kept_aside := outbox.set_aside():
        terminal.note(f"Set aside, as parts of them could not be delivered: {outbox.directory}")
        for path in kept_aside:
            terminal.note(f"  {path.name}")
    if waiting := outbox.waiting():
        terminal.note(f"Still being asked: {counted(len(waiting), 'question')}.")
        for entry in waiting:
            asked = one_line(entry.ask.question)
            terminal.note(f"  {entry.ask.created_at.astimezone():%H:%M:%S}  {asked}")
