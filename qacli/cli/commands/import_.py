"""`qa import`: add the records of a file to the history."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.errors import InvalidRequest, QaError

if TYPE_CHECKING:
    from qacli.db.import_source import ImportSource
    from qacli.db.importers import ImportResult

EPILOG = (
    "\b\nExamples:\n"
    "  qa import history.jsonl\n"
    "  DATABASE_URL=postgresql://... qa import history.jsonl\n"
    '  qa import "$(llm logs path)"'
)


class Source(StrEnum):
    """The program that wrote a file."""

    QA = "qa"
    LLM = "llm"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", epilog=EPILOG)(import_records)


def import_records(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Export or SQLite history of qa, or logs database of llm, also with gzip; - reads "
            "standard input.",
        ),
    ],
    *,
    source: Annotated[
        Source | None,
        typer.Option(
            "--from",
            metavar="PROGRAM",
            help="Refuse a file of another program: qa or llm (default: detected).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add the records of a file, with ids, links and times. Importing twice adds nothing."""
    from qacli.cli.store import open_store
    from qacli.db.import_source import NAMES, Format, open_import_source
    from qacli.db.importers import ImportResult, import_records

    console = Console.from_context(context)
    with open_import_source(file) as found:
        if source is not None and (source is Source.LLM) is not (found.format is Format.LLM):
            raise InvalidRequest(
                f"{file} is {NAMES[found.format]}, and --from is {source}.", "Leave out --from."
            )
        console.info(f"{file} is {NAMES[found.format]}.")
        store = open_store(load_settings(console), console)
        moved = ImportResult()
        try:
            import_records(store, found.documents, moved)
        except QaError:
            # The pages before the error are in the history.
            if moved.added:
                _report(console, found, moved, as_json=as_json)
            raise
    _report(console, found, moved, as_json=as_json)


def _report(
    console: Console, found: "ImportSource", moved: "ImportResult", *, as_json: bool
) -> None:
    """Print how much was added, and how much of the file was left out."""
    from qacli.cli.store import count_noun

    if as_json:
        counts = {"added": moved.added, "there": moved.skipped, "renumbered": moved.renumbered}
        console.print_json(
            {
                **counts,
                "format": found.format.value,
                "left_out": dict(sorted(found.omitted.items())),
            }
        )
        return
    console.print(f"Added: {count_noun(moved.added, 'record')}; {moved.skipped} were there.")
    if moved.renumbered:
        console.print(f"{count_noun(moved.renumbered, 'record')} got a new id: theirs was taken.")
    if found.omitted:
        parts = ", ".join(f"{what} ({number})" for what, number in sorted(found.omitted.items()))
        console.print(f"Left out, since a record has no place for it: {parts}.")
