"""`qa serve`: the same history and the same provider, over HTTP."""

from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.settings import load_settings

EPILOG = (
    "\b\nExamples:\n"
    "  qa serve\n"
    "  qa serve --port 9000 --threads 512\n"
    "  QA_TOKEN=$(openssl rand -hex 32) qa serve --host 0.0.0.0\n"
    "  curl -X POST http://localhost:8000/ask -H 'Content-Type: application/json' \\\n"
    '       -d \'{"question": "Who am I?"}\''
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(serve)


def serve(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    *,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on (default: 127.0.0.1)."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="Port to listen on (default: 8000); 0 for any free one.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Number of processes (default: 1).")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Concurrent questions for each process (default: 256)."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Token that clients send as Authorization: Bearer, 16 characters or more. "
            "QA_TOKEN keeps it out of the process list.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Model to ask.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Allow other machines to connect without a token."),
    ] = False,
) -> None:
    """Serve the history and the provider over HTTP, with a web page.

    On SIGTERM and Ctrl-C it finishes the questions in flight first.
    """
    from qacli.web import run

    flags = {
        "host": host,
        "serve_port": port,
        "workers": workers,
        "threads": threads,
        "token": token,
        "model": model,
    }
    console = Console.from_context(context)
    settings = load_settings(console).explicit_values(flags)
    with run.prepare(settings, insecure=insecure) as address:
        notice = f"Serving on {address}. Ctrl-C stops it; questions in flight are finished."
        run.run(settings, address, lambda: console.warning(notice))
