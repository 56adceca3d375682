"""Options that several commands share, declared once."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the answer.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Notes on stderr even where it is no terminal.")
]
