"""`qa show`: one record."""

from typing import Annotated

import typer

from qacli.cli.choosing import NEGATIVE_IDS, Which, number_of
from qacli.cli.options import AsJson, NoPager
from qacli.cli.settings import load_settings
from qacli.cli.terminal import Terminal
from qacli.errors import InvalidRequest
from qacli.exchange import FIELDS

EPILOG = "\b\nExamples:\n  qa show last\n  qa show 12 --json\n  qa show last --field answer | wc -w"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(show)


def show(
    which: Which,
    *,
    thread: Annotated[
        bool, typer.Option("--thread", help="All that it follows up, too, the oldest first.")
    ] = False,
    field: Annotated[
        str | None, typer.Option(help="Print this field alone.", metavar="FIELD")
    ] = None,
    no_pager: NoPager = False,
    as_json: AsJson = False,
) -> None:
    """Show one question and its answer."""
    from qacli.cli.history import open_history, record_at

    terminal = Terminal.of_process()
    number = number_of(which)
    if field is not None and field not in FIELDS:
        raise InvalidRequest(
            f"A record has no field {field!r}.", f"The fields are {', '.join(FIELDS)}."
        )
    settings = load_settings()
    store = open_history(settings, terminal)
    record = record_at(store, number)
    fields = record.document()
    if field is not None:
        value = fields[field]
        if as_json or not isinstance(value, str):
            terminal.json(value)
        else:
            terminal.line(value)
    elif as_json:
        terminal.json(
            [each.document() for each in store.thread(record.id or 0)] if thread else fields
        )
    else:
        from qacli.cli.pager import paged
        from qacli.cli.render import show_record

        with paged(terminal, settings, wanted=not no_pager) as screen:
            for place, each in enumerate(store.thread(record.id or 0) if thread else [record]):
                if place:
                    screen.line("")
                show_record(each, screen)
