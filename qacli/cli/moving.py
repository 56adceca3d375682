"""`qa export` and `qa import`: histories that move."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.choosing import choosing
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.cli.terminal import Terminal
from qacli.errors import InvalidRequest, QaError

if TYPE_CHECKING:
    from qacli.store.filters import Filter
    from qacli.store.import_source import ImportSource
    from qacli.store.moving import Moved

EXPORT = (
    "\b\nExamples:\n"
    "  qa export > history.jsonl\n"
    "  qa export --format md --tag good --since 30d > good.md"
)
IMPORT = (
    "\b\nExamples:\n"
    "  qa import history.jsonl\n"
    "  DATABASE_URL=postgresql://... qa import history.jsonl\n"
    '  qa import "$(llm logs path)"'
)


class ExportFormat(StrEnum):
    """How a history leaves."""

    JSONL = "jsonl"
    CSV = "csv"
    MD = "md"


class Source(StrEnum):
    """The program that has written a file."""

    QA = "qa"
    LLM = "llm"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export", epilog=EXPORT)(choosing(export))
    app.command("import", epilog=IMPORT)(import_records)


def export(
    *,
    only: "Filter",
    output: Annotated[
        ExportFormat, typer.Option("--format", "-f", help="jsonl can be imported again.")
    ] = ExportFormat.JSONL,
) -> None:
    """Write all records to stdout, or some, the oldest first."""
    from qacli.cli.history import open_history

    terminal = Terminal.of_process()
    settings = load_settings()
    # All pages by one connection: PostgreSQL takes as long to open one as to read a page.
    connections = 0 if settings.database.startswith("sqlite") else 1
    store = open_history(settings, terminal, connections=connections)
    if output is ExportFormat.JSONL:
        terminal.lines(map(terminal.json_text, store.lines(only)))
        return
    from qacli.cli.render import print_documents

    print_documents(store.documents(only), output.value, terminal)


def import_records(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="An export or a SQLite history of qa, or the logs database of llm; also with gzip."
            " - is standard input.",
        ),
    ],
    *,
    source: Annotated[
        Source | None,
        typer.Option(
            "--from", help="Refuse a file of another program. By default its content decides."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add the records of a file, with ids, links and times. A second import adds nothing."""
    from qacli.cli.history import open_history
    from qacli.store.import_source import NAMES, Format, open_import_source
    from qacli.store.moving import Moved, take_in

    terminal = Terminal.of_process()
    with open_import_source(file) as found:
        if source is not None and (source is Source.LLM) is not (found.format is Format.LLM):
            raise InvalidRequest(
                f"{file} is {NAMES[found.format]}, and --from is {source}.", "Leave out --from."
            )
        terminal.note(f"{file} is {NAMES[found.format]}.")
        store = open_history(load_settings(), terminal)
        moved = Moved()
        try:
            take_in(store, found.documents, moved)
        except QaError:
            # The pages before the error are in the history.
            if moved.added:
                _report(terminal, found, moved, as_json=as_json)
            raise
    _report(terminal, found, moved, as_json=as_json)


def _report(terminal: Terminal, found: "ImportSource", moved: "Moved", *, as_json: bool) -> None:
    """Print how much was added, and how much of the file was left out."""
    from qacli.cli.history import counted

    if as_json:
        counts = {"added": moved.added, "there": moved.there, "renumbered": moved.renumbered}
        terminal.json(
            {
                **counts,
                "format": found.format.value,
                "left_out": dict(sorted(found.omitted.items())),
            }
        )
        return
    terminal.line(f"Added: {counted(moved.added, 'record')}; {moved.there} were there.")
    if moved.renumbered:
        terminal.line(f"{counted(moved.renumbered, 'record')} got a new id: theirs was taken.")
    if found.omitted:
        parts = ", ".join(f"{what} ({number})" for what, number in sorted(found.omitted.items()))
        terminal.line(f"Left out, since a record has no place for it: {parts}.")
