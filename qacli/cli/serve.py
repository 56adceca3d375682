"""`qa serve`: placeholder registered until the server lands in the next commit."""

import typer


def register(app: typer.Typer) -> None:
    """Nothing yet."""
