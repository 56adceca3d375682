"""`qa show`: one record."""

import re
from typing import Annotated

import typer

from qacli.cli.options import AsJson
from qacli.cli.terminal import Terminal
from qacli.config import load_settings
from qacli.errors import InvalidRequest
from qacli.exchange import FIELDS

EPILOG = "\b\nExamples:\n  qa show last\n  qa show 12 --json\n  qa show last --field answer | wc -w"


def register(app: typer.Typer) -> None:
    """Add the command."""
    # -2 is a record, and no option.
    app.command(epilog=EPILOG, context_settings={"ignore_unknown_options": True})(show)


def show(
    which: Annotated[
        str,
        typer.Argument(metavar="ID|last", help="The record's id; last; or -2, the one before it."),
    ],
    *,
    thread: Annotated[
        bool, typer.Option("--thread", help="All that it follows up, too, the oldest first.")
    ] = False,
    field: Annotated[
        str | None, typer.Option(help="Print this field alone.", metavar="FIELD")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one question and its answer."""
    from qacli.cli.history import open_history

    terminal = Terminal.of_process()
    if which != "last" and not re.fullmatch(r"-?[0-9]{1,4000}", which):
        raise InvalidRequest(
            f"{which!r} is not a record's id.", "Give a number as qa list shows it, or last."
        )
    if field is not None and field not in FIELDS:
        raise InvalidRequest(
            f"A record has no field {field!r}.", f"The fields are {', '.join(FIELDS)}."
        )
    store = open_history(load_settings(), terminal)
    number = -1 if which == "last" else int(which)
    record = store.get(number) if number >= 0 else store.last(-number)
    fields = record.document()
    if field is not None:
        value = fields[field]
        if as_json or not isinstance(value, str):
            terminal.json(value)
        else:
            terminal.line(value)
    elif thread:
        from qacli.cli.render import show_record

        records = store.thread(record.id or 0)
        if as_json:
            terminal.json([each.document() for each in records])
            return
        for number, each in enumerate(records):
            if number:
                terminal.line("")
            show_record(each, terminal)
    elif as_json:
        terminal.json(fields)
    else:
        from qacli.cli.render import show_record

        show_record(record, terminal)
