"""`qa import`: add the records of a file to the history."""

from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.db.import_formats import FORMAT_NAMES, Program
from qacli.errors import InvalidRequest, QaError

if TYPE_CHECKING:
    from qacli.db.import_source import ImportSource
    from qacli.db.importers import ImportResult

EPILOG = (
    "\b\nExamples:\n"
    "  qa import history.jsonl\n"
    "  DATABASE_URL=postgresql://... qa import history.jsonl\n"
    '  qa import "$(llm logs path)"\n'
    "  qa import chatgpt-export.zip"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", epilog=EPILOG)(import_records)


def import_records(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Export or SQLite history of qa, or a file of another program, also with gzip; - "
            "reads standard input.",
        ),
    ],
    *,
    source: Annotated[
        Program | None,
        typer.Option(
            "--from",
            metavar="PROGRAM",
            help="Refuse a file of another program: qa, llm, chatgpt, claude, openwebui, sgpt, "
            "aichat, mods or crush (default: detected).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add the records of a file, with ids, links and times. Importing twice adds nothing."""
    from qacli.cli.store import open_store
    from qacli.db.import_source import open_import_source
    from qacli.db.importers import ImportResult, import_records

    console = Console.from_context(context)
    with open_import_source(file) as source_file:
        name = "empty" if source_file.is_empty else FORMAT_NAMES[source_file.format]
        if source not in {None, source_file.program} and not source_file.is_empty:
            raise InvalidRequest(
                f"{file} is {name}, and --from is {source}.",
                "Leave out --from.",
            )
        console.info(f"{file} is {name}.")
        store = open_store(load_settings(console), console)
        result = ImportResult()
        try:
            import_records(store, source_file.documents, result)
        except QaError:
            # The pages before the error are in the history.
            if result.added:
                _report(console, source_file, result, as_json=as_json)
            raise
    _report(console, source_file, result, as_json=as_json)


def _report(
    console: Console, source_file: "ImportSource", result: "ImportResult", *, as_json: bool
) -> None:
    """Print the number of added records, and the parts of the file that were left out."""
    from qacli.cli.store import count_noun

    if as_json:
        counts = {"added": result.added, "there": result.skipped, "renumbered": result.renumbered}
        console.print_json(
            {
                **counts,
                "format": source_file.format,
                "left_out": dict(sorted(source_file.omitted.items())),
            }
        )
        return
    console.print_message(
        f"Added: {count_noun(result.added, 'record')}; {result.skipped} were there."
    )
    if result.renumbered:
        console.print_message(
            f"{count_noun(result.renumbered, 'record')} got a new id: theirs was taken."
        )
    if source_file.omitted:
        parts = ", ".join(
            f"{name} ({number})" for name, number in sorted(source_file.omitted.items())
        )
        console.print_message(f"Left out, because a record has no field for it: {parts}.")
