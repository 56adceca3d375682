"""`qa batch compare`: the answers of batches, or of the models of one, side by side."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.batch_files import full_disk_explained, open_new
from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from qacli.batch.comparison import ComparedItem, Comparison

EPILOG = (
    "\b\nExamples:\n"
    "  qa batch compare reviews              the models of one batch\n"
    "  qa batch compare before after --answers different\n"
    "  qa batch compare before after -o comparison.html\n"
    "  qa batch compare before after --judge better --model gpt-6-luna --max-cost 2"
)

SUFFIXES = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".html": "html", ".htm": "html"}


class Format(StrEnum):
    """The formats of a comparison."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    HTML = "html"


class Answers(StrEnum):
    """The answers of the items that are shown."""

    SAME = "same"
    DIFFERENT = "different"


def compare(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="BATCH", help="Names of batches; one name compares the models of that batch."
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File for the comparison (default: stdout)."
        ),
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, csv, json, jsonl or html (default: by the file's name, or table).",
        ),
    ] = None,
    answers: Annotated[
        Answers | None,
        typer.Option(metavar="WHAT", help="Only items whose answers are the same, or different."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Ask a model which answer is better, with a template that has {question}, {a} and "
            "{b}; see qa template.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Model to ask for the verdicts."),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(metavar="USD", min=0, help="Budget of the verdicts in US dollars."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no progress and no totals to stderr.")
    ] = False,
) -> int:
    """Compare the answers of batches, or models, item by item.

    Items are matched by their ids; those that all have answered are compared. The exit code is 8 if
    verdicts are missing.
    """
    from qacli.batch.comparison import Comparison, variants_of
    from qacli.cli.store import open_batches
    from qacli.db.batches import THREADS

    console = Console.from_context(context)
    console.quiet = quiet
    if judge is None and (model is not None or max_cost is not None):
        raise InvalidRequest("--model and --max-cost are for --judge.", "Add --judge TEMPLATE.")
    form = Format.JSON if as_json else output_format or _format_of(output)
    settings = load_settings(console)
    batches = open_batches(settings, console, connections=THREADS)
    comparison = Comparison(batches, variants_of(batches, names))
    _refuse_existing(output, force=force)
    code = 0
    if judge is not None:
        from qacli.cli.batch_judge import Judge
        from qacli.cli.batch_work import EXIT_INTERRUPTED

        judging = Judge(batches, comparison, settings, console)
        code = judging.ask(judge, model=model, max_cost=max_cost)
        if code > EXIT_INTERRUPTED:
            return code
    items = _not_empty(comparison)
    shown = items if answers is None else _with_answers(items, answers)
    lines = _pieces(form, shown, comparison, console, is_file=output is not None)
    if output is None or str(output) == "-":
        is_json = form in {Format.JSON, Format.JSONL}
        texts = map(console.json_text, lines) if is_json else lines
        console.print_lines(text.removesuffix("\n") for text in texts)
    else:
        _write(output, lines, force=force)
    if form is not Format.TABLE and form is not Format.JSON:
        from qacli.cli.batch_comparison_table import totals_lines
        from qacli.cli.formatters import console_on

        for line in totals_lines(comparison, console_on(console.stderr).width):
            console.warning(line)
    return code


def _format_of(output: Path | None) -> Format:
    """Return the format of a file by its ending; a table for standard output.

    Raises:
        InvalidRequest: The ending is that of no format.
    """
    if output is None or str(output) == "-":
        return Format.TABLE
    form = {**SUFFIXES, ".txt": "table"}.get(output.suffix.lower())
    if form is None:
        raise InvalidRequest(
            f"The ending of {output} is that of no format.",
            "Use .csv, .json, .jsonl, .html or .txt, or name the format with --format.",
        )
    return Format(form)


def _not_empty(comparison: "Comparison") -> Iterator["ComparedItem"]:
    """Return the items.

    Raises:
        NotFound: There are none.
    """
    items = comparison.items()
    first = next(items, None)
    if first is None:
        raise NotFound(
            f"No item is answered in all of {', '.join(comparison.labels)}.",
            "Items are matched by their ids. Without a column of ids an item is known by its place "
            "and its question: use --id COLUMN when the batches are begun.",
        )
    return chain([first], items)


def _with_answers(items: Iterable["ComparedItem"], answers: Answers) -> Iterator["ComparedItem"]:
    is_same = answers is Answers.SAME
    return (item for item in items if item.agreement.is_same is is_same)


def _pieces(
    form: Format,
    items: Iterable["ComparedItem"],
    comparison: "Comparison",
    console: Console,
    *,
    is_file: bool,
) -> Iterator[str]:
    """Yield the text of a comparison in a format, a piece at a time, each with its line end."""
    if form is not Format.TABLE:
        from qacli.batch.comparison_formats import FORMATS

        yield from FORMATS[form](items, comparison)
        return
    from qacli.cli.batch_comparison_table import table_lines, totals_lines
    from qacli.cli.formatters import console_on

    width = 80 if is_file else console_on(console.stdout).width
    for line in chain(table_lines(items, comparison, width), [""]):
        yield line + "\n"
    for line in totals_lines(comparison, width):
        yield line + "\n"


def _refuse_existing(output: Path | None, *, force: bool) -> None:
    """Refuse an existing file before verdicts are asked.

    Raises:
        InvalidRequest: The file exists, or its directory does not.
    """
    if output is None or str(output) == "-":
        return
    if output.is_file() and not force:
        raise InvalidRequest(
            f"{output} exists.", "Name another file, or use --force to replace it."
        )
    if not output.absolute().parent.is_dir():
        raise InvalidRequest(f"There is no directory {output.parent}.", "Create it first.")


def _write(output: Path, lines: Iterable[str], *, force: bool) -> None:
    """Write the text to a file.

    Raises:
        InvalidRequest: The file cannot be opened.
        DatabaseError: The disk is full.
    """
    file = open_new(output, force=force or output.is_char_device())
    with full_disk_explained("comparison"), TextIOWrapper(file, "utf-8", newline="") as text:
        text.writelines(lines)
