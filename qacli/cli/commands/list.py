"""`qa list`: the history, oldest first and newest last, like a log."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

from qacli.cli.console import Console
from qacli.cli.filters import with_filter_options
from qacli.cli.options import AsJson, Format, NoPager, Verbose
from qacli.cli.settings import load_settings
from qacli.serializers import to_json_line
from qacli.validation import MAX_ID

if TYPE_CHECKING:
    from qacli.config.settings import Settings
    from qacli.db.export import IdRange
    from qacli.db.filters import Filter
    from qacli.db.records import Store

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
    from qacli.cli.formatters import print_documents, print_json_array, print_table
    from qacli.cli.pager import pager_output
    from qacli.cli.store import open_selected
    from qacli.db.filters import Filter

    console = Console.from_context(context)
    console.verbose = verbose
    settings = load_settings(console)
    store = open_selected(settings, console, only)
    form = Format.JSON if as_json else output_format
    if only.search is not None and order in {None, Order.BEST} and after is before is None:
        order = Order.BEST
    elif order is Order.BEST:
        order = None
    elif order is None and (after is not None or not limit):
        order = Order.OLDEST
    as_lines = form in {Format.JSON, Format.JSONL}
    id_range: IdRange = {"after": after, "before": before, "limit": limit or None}
    records = _load(store, only, order, as_lines=as_lines, **id_range)
    if form is Format.JSON:
        print_json_array(records, console)
    elif form is Format.JSONL:
        console.print_lines(map(console.json_text, records))
    elif form is Format.CSV:
        print_documents(records, "csv", console)
    else:
        with pager_output(console, settings, enabled=not no_pager) as screen:
            print_table(records, screen, only.search, narrowed=only != Filter())
    _print_outbox(settings, console)


def _print_outbox(settings: "Settings", console: Console) -> None:
    """Print the questions in the outbox, and the damaged journals, to stderr."""
    from qacli.cli.formatters import one_line
    from qacli.cli.store import count_noun
    from qacli.recording.outbox import Outbox

    outbox = Outbox(settings.outbox_path)
    if set_aside := outbox.set_aside():
        console.info(f"Set aside, as parts of them could not be delivered: {outbox.directory}")
        for path in set_aside:
            console.info(f"  {path.name}")
    if pending := outbox.pending():
        console.info(f"Still being asked: {count_noun(len(pending), 'question')}.")
        for entry in pending:
            question = one_line(entry.question.question)
            console.info(f"  {entry.question.created_at.astimezone():%H:%M:%S}  {question}")


def _load(
    store: "Store",
    only: "Filter",
    order: Order | None,
    *,
    as_lines: bool,
    **id_range: "Unpack[IdRange]",
) -> Iterator[Any]:
    """Return the records to print: as lines of JSON, or as dicts.

    Args:
        store: The history.
        only: The filter.
        order: The order; None is the newest records, the oldest of them first.
        as_lines: Return lines of JSON.
        id_range: The range of ids, and the maximum number of records.
    """
    if order is Order.BEST:
        documents = _best_first(store, only, id_range["limit"])
        return map(to_json_line, documents) if as_lines else documents
    load: Callable[..., Iterator[Any]] = store.json_lines if as_lines else store.dicts
    if order is Order.OLDEST:
        return load(only, **id_range)
    newest_first = load(only, **id_range, newest_first=True)
    return newest_first if order is Order.NEWEST else iter(list(newest_first)[::-1])


def _best_first(store: "Store", only: "Filter", limit: int | None) -> "Iterator[dict[str, Any]]":
    """Yield the matches of a search: the ranked ones, then all older ones, the newest first."""
    from qacli.db.search import MAX_RANKED

    count, oldest = 0, MAX_ID
    for record in store.search(only, limit or MAX_ID):
        yield record.to_dict()
        count, oldest = count + 1, min(oldest, record.id or 0)
    if count >= MAX_RANKED and count != limit:
        rest = None if limit is None else limit - count
        yield from store.dicts(only, before=oldest, limit=rest, newest_first=True)
