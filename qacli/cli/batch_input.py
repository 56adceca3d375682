"""The options of `qa batch FILE` that say how questions are made of a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.options import with_options_of
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.batch.loader import BatchSource
    from qacli.config.settings import Settings
    from qacli.prompt_templates import PromptTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInputOptions:
    """The options as they are written; see `input_from_options`."""

    form: str | None
    question: str | None
    column: str | None
    template: str | None
    schema: str | None
    id_column: str | None
    tags: tuple[str, ...]
    quotes: bool | None
    delimiter: str | None
    encoding: str | None
    sheet: str | None
    skip_bad: bool

    def load_template(self, settings: "Settings") -> "PromptTemplate":
        """Return the template of `--template`; without the option, one that changes nothing.

        Raises:
            InvalidRequest: There is no such template, or the question is given twice.
        """
        from qacli.prompt_templates import PromptTemplate, load_template

        if self.template is None:
            return PromptTemplate()
        template = load_template(settings, self.template)
        if template.question is not None and (self.question or self.column):
            raise InvalidRequest(
                f"The template {self.template!r} has a question, and so has the command.",
                "Leave --question and --column out.",
            )
        return template

    def source(self, path: Path | None, template: "PromptTemplate") -> "BatchSource":
        """Return the file with these options.

        Args:
            path: The file; None is standard input.
            template: The template of `--template`.

        Raises:
            InvalidRequest: The format is unknown, or an option does not belong to it.
        """
        from qacli.batch.input_file import format_of
        from qacli.batch.loader import BatchSource
        from qacli.prompt_templates import Pattern
        from qacli.validation import validate_tag

        for tag in self.tags:
            validate_tag(tag)
        system = template.system
        source = BatchSource(
            path=path,
            form=format_of(path, self.form),
            template=self.question if template.question is None else template.question,
            system_template=system if system and Pattern.parse(system).names else None,
            column=self.column,
            id_column=self.id_column,
            tags=self.tags,
            skip_bad=self.skip_bad,
            quotes=self.quotes,
            delimiter=self.delimiter,
            encoding=self.encoding,
            sheet=self.sheet,
        )
        source.check()
        return source


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
    """Return the path of the file; None is standard input.

    Raises:
        InvalidRequest: There are several: a shell has replaced a pattern by its files.
    """
    if len(names) > 1:
        raise InvalidRequest(
            f"There are {len(names)} files.",
            "Name one file, a directory, or a pattern in quotes: qa batch 'notes/*.txt'",
        )
    return None if names == ["-"] else Path(names[0])


def batch_settings_of(answer_settings: dict[str, Any], source: "BatchSource") -> dict[str, Any]:
    """Return the settings that may not change between two runs of a batch.

    Options that older versions did not have are in it only if they are used, so that a batch of an
    older version goes on.
    """
    settings = {**answer_settings, "template": source.template, "column": source.column}
    if source.quotes is not None and source.quotes != (source.form == "csv"):
        settings["quotes"] = source.quotes
    newer = {
        "id": source.id_column,
        "tags": list(source.tags) or None,
        "system_template": source.system_template,
    }
    return settings | {name: value for name, value in newer.items() if value is not None}
