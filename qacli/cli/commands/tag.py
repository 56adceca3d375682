"""`qa tag`: add tags to a record, or remove them."""

import re
from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, RecordId, parse_record_id
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.errors import InvalidRequest
from qacli.validation import validate_tag

EPILOG = "\b\nExamples:\n  qa tag 12 +good -draft\n  qa tag last +recipe"


def register(app: typer.Typer) -> None:
    """Add the command."""
    # -draft removes a tag, and is no option either.
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(tag)


def tag(
    context: typer.Context,
    record_id: RecordId,
    changes: Annotated[
        list[str], typer.Argument(metavar="CHANGE", help="+TAG adds a tag, -TAG removes it.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Add tags to a record, or remove them."""
    from qacli.cli.store import open_store, record_at

    console = Console.from_context(context)
    for change in changes:
        if not re.fullmatch(r"[+-]\S(.*\S)?", change):
            raise InvalidRequest(
                f"Invalid change {change!r}.", "Write +good to add a tag, -draft to remove one."
            )
        validate_tag(change[1:])
    number = parse_record_id(record_id)
    store = open_store(load_settings(console), console)
    number = record_at(store, number).id or 0
    add = [change[1:] for change in changes if change.startswith("+")]
    remove = [change[1:] for change in changes if change.startswith("-")]
    tags = store.change_tags(number, add, remove)
    if as_json:
        console.print_json({"id": number, "tags": tags})
    else:
        console.print(f"{number}: {', '.join(tags) or '(no tags)'}")
