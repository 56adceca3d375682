"""`qa local`: install the small model that answers on this machine."""

import subprocess
import sys

import typer

from qacli.cli.command import App
from qacli.cli.console import Console
from qacli.errors import NotConfigured

EPILOG = '\b\nExamples:\n  qa local install\n  qa ask --model local "Who am I?"'

commands = App(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="local", epilog=EPILOG)


@commands.callback()
def local() -> None:
    """Install the small model that answers on this machine."""


@commands.command()
def install(context: typer.Context) -> None:
    """Install the engine and the weights, about 130 MB, into the environment of qa.

    No compiler is needed. Nothing is done if both are installed.
    """
    install_local_model(Console.from_context(context))


def install_local_model(console: Console) -> None:
    """Install the local model with uv or pip, whichever belongs to this environment.

    Raises:
        NotConfigured: A library of the system is missing, or the installation has failed.
    """
    from shlex import join

    from qacli.installation import (
        Installation,
        installation,
        local_model_advice,
        local_model_command,
    )
    from qacli.provider import local_llama

    local_llama.check_libraries()
    if local_llama.is_installed():
        console.info("The local model is installed.")
        return
    if installation() is Installation.IMAGE:
        raise NotConfigured(
            "The local model is installed when the image is built.",
            f"On the host, {local_model_advice()}",
        )
    command = local_model_command()
    console.info(f"Running: {join(command)}")
    console.stdout.flush()
    # The output of the installer goes to stderr, as all notes do.
    try:
        code = subprocess.run(command, stdout=sys.stderr.fileno(), check=False).returncode  # noqa: S603 - the command is qa's own
    except OSError as error:
        raise NotConfigured(
            f"{command[0]} cannot be started: {error.strerror}.", "Install pip or uv."
        ) from error
    if code:
        raise NotConfigured(
            f"The local model was not installed: {join(command[:3])} ended with {code}.",
            "Its messages are above.",
        )
    console.info('The local model is installed. Try: qa ask --model local "Who am I?"')
