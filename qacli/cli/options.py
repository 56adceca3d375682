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
        help="The model to ask; local, or local:/path.gguf, is one on this machine.",
    ),
]
System = Annotated[
    str | None, typer.Option("--system", "-s", metavar="TEXT", help="A system prompt.")
]
Temperature = Annotated[
    float | None, typer.Option(metavar="NUMBER", help="0 to 2; lower is more predictable.")
]
MaxTokens = Annotated[int | None, typer.Option(metavar="N", help="The longest answer, in tokens.")]
Raw = Annotated[bool, typer.Option("--raw", help="The text as it is, also on a terminal.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
NoPager = Annotated[
    bool, typer.Option("--no-pager", help="Print all of it, however long, and start no pager.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the answer.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="What is still being asked, on stderr even where that is no terminal.",
    ),
]
Target = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where the results go; else stdout."),
]
TargetFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="jsonl, csv, openai or parquet; else by the file's name, or jsonl.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an output file that the batch has not written.")
]
