"""The Typer application: parses the command line, runs a command, maps errors to exit codes.

Each command has a module of its own, and only the module of the called command is imported. It
imports heavy modules only when it runs, so that `qa --help`, which imports all commands, is quick.
"""

import gc
import os
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from qacli import __version__
from qacli.cli.command import App, Group
from qacli.cli.commands.help import EXIT_CODES
from qacli.cli.console import Console
from qacli.cli.signals import raise_on_interrupt
from qacli.config.loader import choose_profile
from qacli.errors import Interrupted, QaError

GC_THRESHOLD = 50_000
"""New objects before a run of the garbage collector."""

MODULES = {
    **{name: name for name in ("ask", "chat", "models", "template", "show", "compare", "list")},
    "search": "list",
    **{name: name for name in ("batch", "rm", "prune", "tag", "title", "rate", "export")},
    "import": "import_",
    **{name: name for name in ("stats", "config", "local", "migrate", "serve", "help")},
}
"""The module in `qacli.cli.commands` of each command, in the order of README."""

ORDER = tuple(MODULES)

EPILOG = (
    "\b\nExamples:\n"
    '  qa ask "Who am I?"\n'
    '  git diff | qa ask "Review this"\n'
    "  qa show last\n"
    "  qa list --limit 50\n"
    "\n\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in EXIT_CODES.items())
)


class OrderedGroup(Group):
    """A group that lists its commands in the order of README."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer's context
        """Return the names of the commands."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


def _print_version(context: typer.Context, value: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if value:
        Console.from_context(context).print(f"qa {__version__}")
        raise typer.Exit


def _print_completion(context: typer.Context, value: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if value:
        from qacli.cli.completion_scripts import script_of

        Console.from_context(context).print(script_of())
        raise typer.Exit


def _install_completion(context: typer.Context, value: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if value:
        from qacli.cli.completion_scripts import install

        shell, path = install()
        Console.from_context(context).print(
            f"Completion for {shell} is in {path}; a new shell has it."
        )
        raise typer.Exit


def _choose_profile(name: str | None) -> str | None:
    if name is not None:
        choose_profile(name)
    return name


def qa(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Show the version."
        ),
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="PROFILE",
            callback=_choose_profile,
            help="Profile of the configuration file to use.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=_install_completion,
            is_eager=True,
            help="Install completion for the current shell.",
        ),
    ] = False,
    show_completion: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            callback=_print_completion,
            is_eager=True,
            help="Print the completion script for the current shell.",
        ),
    ] = False,
) -> None:
    """Ask a language model; keep every question and answer; find them again."""


@cache
def build_app(command: str | None = None) -> App:
    """Return the application with this command alone, which takes less time, or with all.

    Args:
        command: The name of a command; None for all commands.
    """
    app = App(
        name="qa",
        cls=OrderedGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    app.callback()(qa)
    modules = MODULES.values() if command is None else (MODULES[command],)
    for module in dict.fromkeys(modules):
        import_module(f"qacli.cli.commands.{module}").register(app)
    return app


def _app_for(arguments: list[str]) -> App:
    """Return the application for a command line; `help` needs all commands."""
    command = arguments[0] if arguments else ""
    return build_app(command if command in MODULES and command != "help" else None)


@cache
def _command_of(app: typer.Typer) -> Any:  # noqa: ANN401 - Typer's own
    """Return the command of an application; building it takes longer than running most commands."""
    return typer.main.get_command(app)


def run(
    arguments: list[str], app: typer.Typer | None = None, console: Console | None = None
) -> int:
    """Run the program without ending the process; return the exit code.

    Args:
        arguments: The command line, without the name of the program.
        app: The commands; None means those of qa.
        console: The streams for every command; None means those of the process.

    Raises:
        SystemExit: A signal ended the command, or the reader of stdout has closed it.
    """
    console = console or Console.from_process()
    try:
        with raise_on_interrupt():
            arguments = arguments or _first_arguments(console)
            command = _command_of(app or _app_for(arguments))
            code = command.main(arguments, prog_name="qa", standalone_mode=False, obj=console)
    except QaError as error:
        console.error(error)
        code = error.exit_code
    except TyperException as error:
        console.usage_error(error)
        code = error.exit_code
    except typer.Abort:
        console.info("")  # the cursor is still on the line of the prompt
        code = Interrupted.exit_code
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    except Exception as error:
        if "--debug" in arguments:
            raise
        console.error(
            QaError(
                f"Unexpected error: {type(error).__name__}: {error}.",
                "Please report it, with the output of `qa --debug ...`.",
            )
        )
        code = QaError.exit_code
    else:
        code = code if isinstance(code, int) else 0
    return console.finish(code)


def _first_arguments(console: Console) -> list[str]:
    """Return the command line for `qa` alone: the first question, or nothing, which shows help."""
    if console.stdin is None or not (console.stdin.isatty() and console.is_terminal):
        return []
    from qacli.cli.first_run import set_up, should_offer_setup

    return ["ask", "--", set_up(console)] if should_offer_setup() else []


def main() -> NoReturn:
    """`qa`, as it is installed."""
    _open_closed_streams()
    # Most objects of a command are modules, which stay until its end. Collecting garbage among
    # them again and again, and once more at the end, takes a fifth of its time.
    gc.set_threshold(GC_THRESHOLD)
    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that is closed (`2>&-`).

    Otherwise Python has no such stream, and the next file or socket takes its number.
    """
    for number in range(3):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - to the end
