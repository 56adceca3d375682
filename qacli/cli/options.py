"""Options that several commands share, declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="Model to ask; local or local:/path.gguf runs on this machine.",
    ),
]
System = Annotated[
    str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")
]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="NUMBER", help="Sampling temperature, 0 to 2; lower is more predictable."),
]
MaxTokens = Annotated[
    int | None, typer.Option(metavar="N", help="Maximum length of the answer, in tokens.")
]
Tools = Annotated[
    list[str] | None,
    typer.Option(
        "--tool",
        metavar="NAME",
        help="Tool that the provider runs, such as web_search, or its settings as a JSON object; "
        "can be repeated.",
    ),
]
Raw = Annotated[bool, typer.Option("--raw", help="Do not render Markdown.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
NoPager = Annotated[bool, typer.Option("--no-pager", help="Print everything without a pager.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer and errors.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print notes to stderr even if it is not a terminal.",
    ),
]
Target = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="File for the results (default: stdout)."),
]
TargetFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="jsonl, csv, openai or parquet (default: by the file's name, or jsonl).",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an output file that this batch did not write.")
]
