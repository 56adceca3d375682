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
