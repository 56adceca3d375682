"""Typer's classes with plain help texts, and with the options of earlier versions."""

import re
from collections.abc import Callable, Iterable, Iterator
from shlex import join
from shutil import get_terminal_size
from typing import Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.exceptions import TyperException

from qacli.cli.console import Console
from qacli.errors import InvalidRequest

NUMBER_OPTION = re.compile("-[0-9]+")
"""A limit as `head` and `tail` take it: `qa list -10`."""

NARROW_COLUMNS = 60
"""A screen with fewer columns is narrow."""

MIN_HELP_COLUMNS = 24
NAME_COLUMNS = 8
"""The longest name that has its text next to it on a narrow screen."""

MAX_SHORT_HELP = 200

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FILTERS = {"-s": "--search", "--follows": "--follow"}

RENAMED_OPTIONS = {
    "list": {**_FILTERS, "-f": "--format"},
    "export": {**_FILTERS, "-f": "--format"},
    "stats": _FILTERS,
    "batch run": {"-f": "--format"},
    "batch results": {"-f": "--format"},
    "migrate new": {"-m": "--message"},
}
"""For each command, the spelling in an earlier version and the present one. Each takes a value."""

RENAMED_TEXT_OPTIONS = {"batch run": {"-t": "--question", "--template": "--question"}}
"""Spellings that took a text with placeholders in an earlier version, and take a name now."""


class _HelpForAnyWidth:
    """Writes a help text that fits a narrow screen too."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write the help text."""
        columns = get_terminal_size().columns
        if columns < NARROW_COLUMNS:
            # Typer's formatter takes at least 50 columns.
            formatter.width = max(columns - 1, MIN_HELP_COLUMNS)
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_HelpForAnyWidth, TyperCommand):
    """A command without Python types in its help, which also accepts renamed options and `-10`."""

    allow_extra_args = True  # `parse_args` reports them

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - Typer's
        """Return the words of the usage line."""
        return ["[OPTIONS]", *map(_usage, _arguments(self.params))]

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write the arguments and the options."""
        write_parameters(self.get_params(ctx), formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's
        """Parse the command line; a renamed option is replaced, with a notice on stderr."""
        console, command = Console.from_context(ctx), ctx.command_path.partition(" ")[2]
        renamed = RENAMED_OPTIONS.get(command, {})
        renamed_texts = RENAMED_TEXT_OPTIONS.get(command, {})
        options = [item for item in self.params if isinstance(item, TyperOption)]
        with_value = {name for item in options if not item.is_flag for name in item.opts}
        current: list[str] = []
        tokens = iter(args)
        for token in tokens:
            if token == "--":  # noqa: S105 - a word of the command line
                current += [token, *tokens]
                break
            if "--limit" in with_value and NUMBER_OPTION.fullmatch(token):
                current.append(f"--limit={token[1:]}")
                continue
            is_long = token.startswith("--")
            name, value = token.partition("=")[::2] if is_long else (token[:2], token[2:])
            if (text_option := renamed_texts.get(name)) is not None:
                following = [] if value else [text for text in [next(tokens, None)] if text]
                if "{" in (text := value or "".join(following)):
                    console.warning(f"qa: {name} is deprecated here. Use {text_option}.")
                    current.append(f"{text_option}={text}")
                else:
                    current += [token, *following]
                continue
            if new := renamed.get(name):
                console.warning(f"qa: {name} is deprecated here. Use {new}.")
            current.append(f"{new}={value}" if new and value else new or token)
            if token == name and (new or name in with_value):
                current += [value for value in [next(tokens, None)] if value is not None]
        rest = _parse(super().parse_args, ctx, current)
        if rest and not ctx.resilient_parsing:
            from qacli.cli.other_programs import command_for_extra

            use = command_for_extra(ctx.command_path, args, rest)
            todo = f"Use: {use}" if use else f"See: {ctx.command_path} --help"
            raise InvalidRequest(f"{ctx.command_path} does not take {join(rest)}.", todo)
        return rest


def _parse(parse: Callable[[Any, list[str]], list[str]], ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
    """Parse a command line; an error of the parser names the help of this command."""
    try:
        return parse(ctx, args)
    except TyperException as error:
        if hasattr(error, "possibilities"):  # there is no such option
            from qacli.cli.other_programs import option_for

            option = getattr(error, "option_name", "")
            if use := option_for(ctx.command_path, option):
                what = f"{ctx.command_path} has no option {option}."
                raise InvalidRequest(what, f"Use: {use}") from error
        if getattr(error, "ctx", ctx) is None:
            error.ctx = ctx  # type: ignore[attr-defined]
        raise


class Group(_HelpForAnyWidth, TyperGroup):
    """A group of commands with the same help.

    A command or an option that other programs have, or a question, is an error that names the
    command here.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's
        """Parse the options of the group; an option of `qa ask` is an error that names it."""
        words = [*args]
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            option = getattr(error, "option_name", None)
            if option is None or ctx.command_path != "qa":
                raise
            from qacli.cli.other_programs import command_for_option

            use = command_for_option(option, words)
            if use is None:
                raise
            raise InvalidRequest(f"qa itself has no option {option}.", f"Use: {use}") from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - Typer's
        """Return the name, the command and its arguments.

        Raises:
            TyperException: There is no such command.
            InvalidRequest: There is none, and another one was probably meant.
        """
        try:
            return super().resolve_command(ctx, args)
        except TyperException as error:
            from qacli.cli.other_programs import command_for

            use = command_for(ctx.command_path, args)
            if use is None:
                raise
            raise InvalidRequest(f"There is no command {args[0]!r}.", f"Use: {use}") from error

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write the options and the commands."""
        write_parameters(self.get_params(ctx), formatter)
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, command.get_short_help_str(MAX_SHORT_HELP))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        _write_rows("Commands", rows, formatter)


class App(typer.Typer):
    """A Typer application that creates `Group` and `Command` objects."""

    def __init__(self, *, cls: type[Group] = Group, **options: Any) -> None:  # noqa: ANN401 - Typer's
        super().__init__(cls=cls, rich_markup_mode=None, **options)

    def command(
        self,
        name: str | None = None,
        **options: Any,  # noqa: ANN401 - Typer's
    ) -> Callable[[_Function], _Function]:
        """Register a function as a command."""
        return super().command(name, cls=Command, **options)


def write_parameters(
    parameters: Iterable[Any],
    formatter: Any,  # noqa: ANN401 - Typer's own
    title: str = "Options",
) -> None:
    """Write the sections "Arguments" and `title` of a help text, if they are not empty."""
    parameters = list(parameters)
    arguments = [(_name(item), item.help or "") for item in _arguments(parameters)]
    options = [
        _option_row(item)
        for item in parameters
        if isinstance(item, TyperOption) and not item.hidden
    ]
    for heading, rows in (("Arguments", arguments), (title, options)):
        _write_rows(heading, rows, formatter)


def _write_rows(heading: str, rows: list[tuple[str, str]], formatter: Any) -> None:  # noqa: ANN401
    """Write names with their texts next to them; on a narrow screen a text is below a long name."""
    if rows:
        name_width = NAME_COLUMNS if formatter.width < NARROW_COLUMNS - 2 else 30
        with formatter.section(heading):
            formatter.write_dl(rows, col_max=name_width)


def _arguments(parameters: Iterable[Any]) -> Iterator[TyperArgument]:
    return (item for item in parameters if isinstance(item, TyperArgument))


def _name(argument: TyperArgument) -> str:
    return argument.metavar or argument.name or ""


def _usage(argument: TyperArgument) -> str:
    name = _name(argument) if argument.required else f"[{_name(argument)}]"
    return f"{name}..." if argument.nargs == -1 else name


def _option_row(option: TyperOption) -> tuple[str, str]:
    """Return the names with the value's name, and the text with the default value."""
    names = ", ".join(sorted(option.opts, key=len))
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    if not option.is_flag:
        names += f" {option.metavar or (option.name or '').upper()}"
    text = option.help or ""
    if not option.is_flag and option.default not in {None, 0} and option.show_default:
        text += f" Default: {option.default}."
    return names, text
