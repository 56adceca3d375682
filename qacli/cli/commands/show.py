"""`qa show`: one record."""

from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, RecordId, parse_record_id
from qacli.cli.options import AsJson, NoPager, ShowReasoning
from qacli.cli.settings import load_settings
from qacli.errors import InvalidRequest
from qacli.serializers import RECORD_FIELDS

EPILOG = "\b\nExamples:\n  qa show last\n  qa show 12 --json\n  qa show last --field answer | wc -w"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(show)


def show(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    record_id: RecordId,
    *,
    thread: Annotated[
        bool,
        typer.Option("--thread", help="Show the whole thread up to this record, oldest first."),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Show tool calls and their results whole in a thread.")
    ] = False,
    field: Annotated[
        str | None, typer.Option(help="Print only this field.", metavar="FIELD")
    ] = None,
    show_reasoning: ShowReasoning = None,
    request: Annotated[
        bool,
        typer.Option("--request", help="Print the request as JSON, with its whole conversation."),
    ] = False,
    no_pager: NoPager = False,
    as_json: AsJson = False,
) -> None:
    """Show one question and its answer."""
    from qacli.cli.store import open_store, record_at

    console = Console.from_context(context)
    number = parse_record_id(record_id)
    if field is not None and field not in RECORD_FIELDS:
        raise InvalidRequest(
            f"A record has no field {field!r}.", f"The fields are {', '.join(RECORD_FIELDS)}."
        )
    settings = load_settings(console).explicit_values({"show_reasoning": show_reasoning})
    store = open_store(settings, console)
    record = record_at(store, number)
    fields = record.to_dict()
    if request:
        from qacli.services.request import rebuild_request

        console.print_json(rebuild_request(store, record))
        return
    if field is not None:
        value = fields[field]
        if as_json or not isinstance(value, str):
            console.print_json(value)
        else:
            console.print(value)
    elif as_json:
        console.print_json(
            [item.to_dict() for item in store.thread(record.id or 0)] if thread else fields
        )
    else:
        from qacli.cli.formatters import show_record
        from qacli.cli.pager import pager_output

        with pager_output(console, settings, enabled=not no_pager) as screen:
            for index, item in enumerate(store.thread(record.id or 0) if thread else [record]):
                if index:
                    screen.print("")
                show_record(
                    item,
                    screen,
                    show_reasoning=settings.show_reasoning,
                    fold_tools=thread and not full,
                )
