"""`qa serve`: the same history and the same provider, over HTTP."""

from typing import Annotated

import typer

from qacli.cli.terminal import Terminal
from qacli.config import load_settings

EPILOG = (
    "\b\nExamples:\n"
    "  qa serve\n"
    "  qa serve --port 9000 --threads 512\n"
    "  QA_TOKEN=... qa serve --host 0.0.0.0\n"
    "  curl -X POST http://localhost:8000/ask -H 'Content-Type: application/json' \\\n"
    '       -d \'{"question": "Who am I?"}\''
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(serve)


def serve(  # noqa: PLR0913 - one parameter an option
    *,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port to listen on; 0 is any.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes to run.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Questions each process can have in flight.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="What clients must send; QA_TOKEN keeps it out of the process list."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model to ask.")] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Listen beyond this machine without a token all the same."),
    ] = False,
) -> None:
    """Serve the history and the provider over HTTP until SIGTERM or Ctrl-C."""
    from qacli.web import server

    flags = {
        "host": host,
        "serve_port": port,
        "workers": workers,
        "threads": threads,
        "token": token,
        "model": model,
    }
    terminal = Terminal.of_process()
    settings = load_settings().given(flags)
    with server.prepared(settings, insecure=insecure) as address:
        terminal.warn(f"Serving on {address}. Ctrl-C stops; questions in flight are finished.")
        server.run(settings, address)
