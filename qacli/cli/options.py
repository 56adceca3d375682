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
    typer.Option("--model", "-m", help="The model to ask; local:/path.gguf is a file here."),
]
System = Annotated[str | None, typer.Option("--system", "-s", help="A system prompt.")]
Temperature = Annotated[float | None, typer.Option(help="0 to 2; lower is more predictable.")]
MaxTokens = Annotated[int | None, typer.Option(help="The longest answer, in tokens.")]
Raw = Annotated[bool, typer.Option("--raw", help="The text as it is, also on a terminal.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
NoPager = Annotated[
    bool, typer.Option("--no-pager", help="Print all of it, however long, and start no pager.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the answer.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Notes on stderr even where it is no terminal.")
]
Target = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where the results go; else stdout.")
]
TargetFormat = Annotated[
    str | None, typer.Option("--format", "-f", help="jsonl, csv, openai or parquet.")
]
