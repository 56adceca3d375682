"""`qa list`: the history, oldest first and newest last, like a log."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import with_filter_options
from qacli.cli.options import AsJson, Format, NoPager, Verbose
from qacli.cli.settings import load_settings
from qacli.validation import MAX_ID

if TYPE_CHECKING:
    from qacli.db.filters import Filter

EPILOG = (
    "\b\nExamples:\n"
    "  qa list\n"
    "  qa list --search 'what? \"exact phrase\"' --since 2d --tag good\n"
    "  qa list --limit 100 --after 250\n"
    "  qa list --format jsonl --limit 0 > history.jsonl"
)


class Order(StrEnum):
    """The sort order of a list."""

    OLDEST = "oldest"
    NEWEST = "newest"
    BEST = "best"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog=EPILOG)(with_filter_options(list_records))


def list_records(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    *,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", "-n", metavar="N", min=0, help="Maximum number of records; 0 for all."
        ),
    ] = 20,
    after: Annotated[
        int | None,
        typer.Option(metavar="ID", help="Only records after this id, oldest first."),
    ] = None,
    before: Annotated[
        int | None, typer.Option(metavar="ID", help="Only records before this id.")
    ] = None,
    only: "Filter",
    order: Annotated[
        Order | None,
        typer.Option(
            metavar="ORDER",
            help="oldest, newest or best first (default: newest last; searches: best first).",
        ),
    ] = None,
    output_format: Annotated[
        Format,
        typer.Option(
            "--format", metavar="FORMAT", help="Output format: table, json, jsonl or csv."
        ),
    ] = Format.TABLE,
    no_pager: NoPager = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """List records: the newest, or what a search and filters choose."""
    from qacli.cli.formatters import one_line, print_records
    from qacli.cli.pager import pager_output
    from qacli.cli.store import count_noun, open_store
    from qacli.db.filters import Filter
    from qacli.recording.outbox import Outbox

    console = Console.from_context(context)
    console.verbose = verbose
    settings = load_settings(console)
    store = open_store(settings, console)
    if only.search is not None and order in {None, Order.BEST} and after is None and before is None:
        records = iter(store.search(only, limit or MAX_ID))
    elif order is Order.OLDEST or (order is None and (after is not None or not limit)):
        records = store.iterate(after=after, before=before, limit=limit or None, only=only)
    else:
        page = store.page(
            limit=limit or MAX_ID, after=after, before=before, newest_first=True, only=only
        )
        records = iter(page if order is Order.NEWEST else page[::-1])
    how = Format.JSON if as_json else output_format
    with pager_output(console, settings, wanted=how is Format.TABLE and not no_pager) as screen:
        print_records(records, how, screen, only.search, narrowed=only != Filter())
    outbox = Outbox(settings.outbox_path)
    if kept_aside := outbox.set_aside():
        console.info(f"Set aside, as parts of them could not be delivered: {outbox.directory}")
        for path in kept_aside:
            console.info(f"  {path.name}")
    if waiting := outbox.pending():
        console.info(f"Still being asked: {count_noun(len(waiting), 'question')}.")
        for entry in waiting:
            asked = one_line(entry.ask.question)
            console.info(f"  {entry.ask.created_at.astimezone():%H:%M:%S}  {asked}")
