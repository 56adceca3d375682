"""`qa list` and `qa search`: the history, oldest first and newest last, like a log."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Unpack

import typer

from qacli.cli.console import Console
from qacli.cli.filters import filter_from_options, parse_record_id, with_filter_options
from qacli.cli.options import AsJson, Format, NoPager, Verbose, with_options_of
from qacli.cli.settings import load_settings
from qacli.errors import InvalidRequest
from qacli.serializers import to_json_line, to_jsonable
from qacli.validation import MAX_ID

if TYPE_CHECKING:
    from qacli.config.settings import Settings
    from qacli.db.export import IdRange
    from qacli.db.filters import Filter
    from qacli.db.records import Store
    from qacli.db.thread_list import Thread

EPILOG = (
    "\b\nExamples:\n"
    "  qa list\n"
    "  qa list --search 'what? \"exact phrase\"' --since 2d --tag good\n"
    "  qa list --limit 100 --after 250\n"
    "  qa list --threads\n"
    "  qa list --watch\n"
    "  qa list --similar 12 --json | jq '.[] | {id, score}'\n"
    "  qa list --format jsonl --limit 0 > history.jsonl"
)
SEARCH_EPILOG = (
    "\b\nExamples:\n"
    "  qa search ice cream\n"
    "  qa search 'kuber*' --since 30d\n"
    "  qa search '\"exact phrase\"' --json"
)
WATCH_SECONDS = 1.0
MAX_SIMILAR = 1000
"""The number of similar records with `--limit 0`."""


class Order(StrEnum):
    """The sort order of a list."""

    OLDEST = "oldest"
    NEWEST = "newest"
    BEST = "best"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog=EPILOG)(with_filter_options(list_records))
    words = with_options_of(filter_from_options, "only", without="search")
    app.command("search", epilog=SEARCH_EPILOG)(words(search))


Limit = Annotated[
    int,
    typer.Option("--limit", "-n", metavar="N", min=0, help="Maximum number of records; 0 for all."),
]
OutputFormat = Annotated[
    Format,
    typer.Option("--format", metavar="FORMAT", help="Output format: table, json, jsonl or csv."),
]


def search(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="WORD", help="Words, starts of words (kuber*) or '\"phrases\"'."),
    ],
    *,
    limit: Limit = 20,
    only: "Filter",
    output_format: OutputFormat = Format.TABLE,
    no_pager: NoPager = False,
    as_json: AsJson = False,
) -> None:
    """Search the history for words; the best matches come first."""
    list_records(
        context,
        limit=limit,
        only=replace(only, search=" ".join(words)),
        output_format=output_format,
        no_pager=no_pager,
        as_json=as_json,
    )


def list_records(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    *,
    limit: Limit = 20,
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
    threads: Annotated[
        bool,
        typer.Option(
            "--threads", help="List conversations: the first question, and the number of records."
        ),
    ] = False,
    similar: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="List the records that are most similar to this one, the most similar first; "
            "needs the setting embedding_model.",
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Then also print new records as they are answered, until Ctrl-C."
        ),
    ] = False,
    output_format: OutputFormat = Format.TABLE,
    no_pager: NoPager = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """List the newest records, or search and filter them."""
    from qacli.cli.formatters import print_documents, print_json_array
    from qacli.cli.pager import pager_output
    from qacli.cli.record_table import print_table
    from qacli.cli.store import open_selected
    from qacli.db.filters import Filter

    console = Console.from_context(context)
    console.verbose = verbose
    settings = load_settings(console)
    store, only = open_selected(settings, console, only)
    form = _format(output_format, as_json=as_json)
    others: dict[str, object] = {"--after": after, "--before": before, "--order": order}
    if threads:
        others |= {"--similar": similar, "--watch": watch or None}
        _check("--threads", form, {Format.TABLE, Format.JSON}, others)
        from qacli.db.thread_list import list_threads

        conversations = list_threads(store, only, limit or None)
        narrowed = only != Filter()
        _print_threads(conversations, settings, console, form, no_pager=no_pager, narrowed=narrowed)
        return
    if similar is not None:
        others |= {"--watch": watch or None}
        _check("--similar", form, {Format.TABLE, Format.JSON, Format.JSONL}, others)
        _print_similar(store, similar, only, limit, settings, console, form, no_pager=no_pager)
        return
    if watch:
        _check("--watch", form, {Format.TABLE, Format.JSONL}, others)
        with _line_end_after_interrupt(console):
            _watch(store, only, limit, console, form)
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


def _format(form: Format, *, as_json: bool) -> Format:
    """Return the format of the output.

    Raises:
        InvalidRequest: `--json` is given with another format.
    """
    if as_json and form not in {Format.TABLE, Format.JSON}:
        raise InvalidRequest(
            f"--json means --format json, so it does not go with --format {form}.",
            "Leave one of them out.",
        )
    return Format.JSON if as_json else form


def _check(option: str, form: Format, forms: set[Format], others: Mapping[str, object]) -> None:
    """Check that an option goes with the format and with the other options.

    Args:
        option: The option.
        form: The format of the output.
        forms: The formats that the option has.
        others: Options that it does not go with, and their values; None if one is not given.

    Raises:
        InvalidRequest: The options do not go together.
    """
    if form not in forms:
        raise InvalidRequest(
            f"{option} does not go with --format {form}.",
            f"Use --format {' or '.join(sorted(forms))}.",
        )
    for other, value in others.items():
        if value is not None:
            raise InvalidRequest(f"{option} does not go with {other}.", "Leave one of them out.")


def _print_threads(  # noqa: PLR0913 - the options
    threads: "list[Thread]",
    settings: "Settings",
    console: Console,
    form: Format,
    *,
    no_pager: bool,
    narrowed: bool,
) -> None:
    from qacli.cli.pager import pager_output
    from qacli.cli.thread_table import print_thread_table

    rows = [asdict(thread) for thread in threads]
    if form is Format.JSON:
        documents = [{name: to_jsonable(value) for name, value in row.items()} for row in rows]
        console.print_json(documents)
        return
    with pager_output(console, settings, enabled=not no_pager) as screen:
        print_thread_table(rows[::-1], screen, narrowed=narrowed)


def _print_similar(  # noqa: PLR0913, PLR0917 - the options
    store: "Store",
    record_id: str,
    only: "Filter",
    limit: int,
    settings: "Settings",
    console: Console,
    form: Format,
    *,
    no_pager: bool,
) -> None:
    from qacli.cli.pager import pager_output
    from qacli.cli.record_table import print_table
    from qacli.cli.similar import similar_dicts
    from qacli.cli.store import record_at

    record = record_at(store, parse_record_id(record_id))
    documents = similar_dicts(store, record, only, limit or MAX_SIMILAR, settings, console)
    if form is Format.JSON:
        console.print_json(documents)
    elif form is Format.JSONL:
        console.print_lines(map(console.json_text, map(to_json_line, documents)))
    else:
        with pager_output(console, settings, enabled=not no_pager) as screen:
            print_table(documents, screen, only.search, narrowed=True)


@contextmanager
def _line_end_after_interrupt(console: Console) -> Iterator[None]:
    """End the line on which the terminal has written ^C."""
    try:
        yield
    except KeyboardInterrupt:
        console.info("")
        raise


def _watch(store: "Store", only: "Filter", limit: int, console: Console, form: Format) -> NoReturn:
    """Print the newest records, and then each one as soon as it has an outcome."""
    from qacli.cli.record_table import print_table
    from qacli.domain import Status

    latest = store.page(limit=limit or 1, newest_first=True, only=only)[::-1]
    if not limit:
        latest = []
    last_id = max((record.id or 0 for record in store.page(limit=1, newest_first=True)), default=0)
    waiting = [record.id or 0 for record in latest if record.status is Status.ASKING]
    records = [record for record in latest if record.status is not Status.ASKING]
    has_header = True
    while True:
        documents = [record.to_dict() for record in records]
        if form is Format.JSONL:
            console.print_lines(map(console.json_text, map(to_json_line, documents)))
        elif documents:
            print_table(documents, console, only.search, header=has_header)
            has_header = False
        console.wait(WATCH_SECONDS)
        new = store.page(limit=MAX_ID, after=last_id, only=only)
        candidates = [*store.get_many(waiting), *new]
        last_id = max([last_id, *(record.id or 0 for record in new)])
        waiting = [record.id or 0 for record in candidates if record.status is Status.ASKING]
        records = [record for record in candidates if record.status is not Status.ASKING]


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
        order: The order; None means the newest records, the oldest of them first.
        as_lines: Return lines of JSON.
        id_range: The range of ids, and the maximum number of records.
    """
    if order is Order.BEST:
        documents = _best_first(store, only, id_range["limit"])
        return map(to_json_line, documents) if as_lines else documents
    load: Callable[..., Iterator[Any]] = store.json_lines if as_lines else store.dicts
    if order is Order.OLDEST:
        return load(only, **id_range)
    by_time = id_range["after"] is id_range["before"] is None
    newest_first = load(only, **id_range, newest_first=True, by_time=by_time)
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
