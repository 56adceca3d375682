"""The options of `qa batch FILE` that say how questions are made of a file."""

from pathlib import Path
from typing import Annotated

import typer

from qacli.batch.source_options import BatchInputOptions
from qacli.cli.options import with_options_of
from qacli.errors import InvalidRequest


def input_from_options(  # noqa: PLR0913 - one parameter an option
    *,
    input_format: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FORMAT",
            help="Format of FILE: txt, csv, tsv, jsonl, json, xlsx, parquet, or files for a "
            "directory of texts (default: by its name).",
        ),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option("--question", metavar="TEXT", help="The question, with {column} in it."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column with the question.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            "-t",
            metavar="TEMPLATE",
            help="Name of a template whose placeholders are columns; see qa template.",
        ),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEMA",
            help="Answers are JSON with these fields: 'label, score int', or of a JSON schema.",
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="NAME",
            help="Column with the id of each row (default: id, if there is one); '' numbers the "
            "rows.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="Tag for all records; can be repeated."),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            help="Character between two fields of CSV (default: as in the header).",
        ),
    ] = None,
    quotes: Annotated[
        bool | None,
        typer.Option(
            "--quotes/--no-quotes",
            help="Read quoted fields (default: in CSV but not in TSV).",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Encoding of FILE, such as cp1252 (default: UTF-8 or UTF-16)."
        ),
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sheet of an XLSX workbook.")
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Record invalid lines as failed instead of stopping."),
    ] = False,
) -> BatchInputOptions:
    """Return the options as one value."""
    return BatchInputOptions(
        form=input_format,
        question=question,
        column=column,
        template=template,
        schema=schema,
        id_column=id_column,
        tags=tuple(tag or ()),
        quotes=quotes,
        delimiter=delimiter,
        encoding=encoding,
        sheet=sheet,
        skip_bad=skip_bad,
    )


with_input_options = with_options_of(input_from_options, "reading")
"""Add the options of `input_from_options` to a command, which gets them as `reading`."""


def input_path(names: list[str]) -> Path | None:
    """Return the path of the file; None means standard input.

    Raises:
        InvalidRequest: There are several: a shell has replaced a pattern by its files.
    """
    if len(names) > 1:
        raise InvalidRequest(
            f"There are {len(names)} files.",
            "Name one file, a directory, or a pattern in quotes: qa batch 'notes/*.txt'",
        )
    return None if names == ["-"] else Path(names[0])
