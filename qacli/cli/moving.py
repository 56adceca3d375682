"""`qa export` and `qa import`: histories that move."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.choosing import choosing
from qacli.cli.options import AsJson
from qacli.cli.terminal import Terminal
from qacli.config import load_settings
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.store.filters import Filter

EXPORT = (
    "\b\nExamples:\n"
    "  qa export > history.jsonl\n"
    "  qa export --format md --tag good --since 30d > good.md"
)
IMPORT = (
    "\b\nExamples:\n"
    "  qa import history.jsonl\n"
    "  DATABASE_URL=postgresql://... qa import history.jsonl\n"
    '  qa import --from llm "$(llm logs path)"'
)


class ExportFormat(StrEnum):
    """How a history leaves."""

    JSONL = "jsonl"
    CSV = "csv"
    MD = "md"


class Source(StrEnum):
    """Where a history comes from."""

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
        str, typer.Argument(metavar="FILE", help="An export, or - for standard input.")
    ],
    *,
    source: Annotated[
        Source, typer.Option("--from", help="What the file is: an export, or llm's logs.")
    ] = Source.QA,
    as_json: AsJson = False,
) -> None:
    """Add the records of an export, ids, links and times kept. Twice adds nothing."""
    from qacli.cli.history import counted, open_history
    from qacli.store import moving

    terminal = Terminal.of_process()
    store = open_history(load_settings(), terminal)
    if source is Source.LLM:
        moved = moving.take_in(store, moving.of_llm(file))
    else:
        try:
            with open(0 if file == "-" else file, encoding="utf-8-sig") as lines:  # noqa: PTH123 - or stdin
                moved = moving.take_in(store, moving.of_lines(lines))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidRequest(f"{file} cannot be read: {reason}.", "Name an export.") from None
    if as_json:
        terminal.json({"added": moved.added, "there": moved.there, "renumbered": moved.renumbered})
        return
    terminal.line(f"Added: {counted(moved.added, 'record')}; {moved.there} were there.")
    if moved.renumbered:
        terminal.line(f"{counted(moved.renumbered, 'record')} got a new id: theirs was taken.")
