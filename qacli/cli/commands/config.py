"""`qa config`: every setting, where it came from, and how to change it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.commands import trust
from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.config.loader import chosen_profile, config_file
from qacli.config.parsers import parse_list
from qacli.config.settings import (
    Settings,
    setting_field,
    setting_fields,
)
from qacli.errors import InvalidRequest, NotConfigured
from qacli.redaction import without_password

if TYPE_CHECKING:
    from dataclasses import Field

EPILOG = (
    "\b\nExamples:\n"
    "  qa config                          every setting, and where it came from\n"
    "  qa config --json | jq .model.value\n"
    "  qa config set model gpt-5-mini\n"
    "  qa config set key_command 'pass show openai'\n"
    "  qa --profile work config set base_url https://llm.example.com/v1\n"
    "  qa --profile work config key set   into the keyring, asked unseen\n"
    '  qa --profile work ask "Who am I?"\n'
    "  qa config unset model\n"
    "  qa config trust                    let the .env file in this directory count"
)

SHOWN_OF_SECRET = 4
LONG_SECRET = 16
"""Of a shorter secret even its last characters would tell too much."""

commands = typer.Typer(rich_markup_mode=None)
key_commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A setting, as qa config shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands.add_typer(key_commands, name="key", help="The key in the system's keyring.")
    trust.register(commands)
    app.add_typer(commands, name="config", epilog=EPILOG)


@commands.callback(invoke_without_command=True)
def config(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the settings and change them."""
    if context.invoked_subcommand is None:
        _show(as_json=as_json)


@commands.command()
def show(*, as_json: AsJson = False) -> None:
    """Show every setting, its value, and where it came from."""
    _show(as_json=as_json)


@commands.command()
def path() -> None:
    """Print where the configuration file is, whether or not it exists."""
    Console.from_process().print(str(config_file()))


@commands.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    name: Name, value: Annotated[str, typer.Argument(metavar="VALUE", help="Its new value.")]
) -> None:
    """Write a setting into the configuration file.

    At its top, or in the profile that qa --profile or QA_PROFILE chooses. Secrets are refused.
    """
    console = Console.from_process()
    item = _field(name)
    _refuse_secret(item, value)
    _write(name, _for_file(item, value), console)
    _tell_what_beats(name, console)


@commands.command()
def unset(name: Name) -> None:
    """Take a setting out of the configuration file.

    From its top, or from the profile that qa --profile or QA_PROFILE chooses.
    """
    from qacli.config.file import ConfigFile

    # The name of no setting is in the way of every other command: here it can be got rid of.
    if name not in ConfigFile.read(config_file()).table(chosen_profile()):
        _field(name)
        Console.from_process().info(f"{name} is not set in {_place()}.")
        return
    _write(name, None, Console.from_process())


@key_commands.command("set")
def set_key() -> None:
    """Put the key into the system's keyring.

    It is asked for without showing it, or read from standard input where that is no terminal.
    """
    from qacli.config import credentials

    console = Console.from_process()
    settings = load_settings()
    service, user = credentials.keyring_entry(settings)
    if console.stdin is not None and console.stdin.isatty():
        text = str(typer.prompt(f"Key for {user}", hide_input=True, err=True))
    else:
        text = console.read_stdin()
    try:
        key = credentials.parse_key(text)
    except ValueError:
        raise InvalidRequest(
            "That cannot be a key: it is empty, or has spaces or other characters in it.",
            "Give the key alone, in one line.",
        ) from None
    credentials.save_key(settings, key)
    console.info(f"Kept in the keyring as {service}/{user}.")
    if settings.keyring is None:
        _write("keyring", True, console)  # noqa: FBT003 - TOML's true
    _tell_what_beats("keyring", console)


@key_commands.command("unset")
def unset_key() -> None:
    """Take the key out of the system's keyring."""
    from qacli.config import credentials

    console = Console.from_process()
    settings = load_settings()
    name = "/".join(credentials.keyring_entry(settings))
    if credentials.delete_key(settings):
        console.info(f"The keyring no longer has {name}.")
    else:
        console.info(f"The keyring has no {name}.")
    if settings.keyring:
        console.info("If no other key takes its place, also: qa config unset keyring")


def _show(*, as_json: bool) -> None:
    from shutil import get_terminal_size

    console = Console.from_process()
    settings = load_settings()
    found = {
        item.name: {
            "value": shown_value(item, settings),
            "source": _source(item, settings),
            "env": item.metadata["env"],
        }
        for item in setting_fields()
    }
    if as_json:
        console.print_json(found)
        return
    shown = {name: one_line(each["value"]) for name, each in found.items()}
    name_width = max(map(len, shown))
    value_width = min(max(map(len, shown.values())), 40)
    columns = get_terminal_size().columns if console.is_terminal else None
    for name, value in shown.items():
        source = found[name]["source"] or "the default"
        line = f"{name:{name_width}}  {value:{value_width}}  {source}"
        if columns is not None and len(line) > columns:
            # A screen would break it in the middle of a word, and among the names.
            console.print(f"{name:{name_width}}  {value}")
            line = f"{'':{name_width}}  {source}"
        console.print(line)


def _source(item: "Field[Any]", settings: Settings) -> str | None:
    """Return where the value came from, and the `.env` that would set it but is ignored."""
    source, ignored = settings.sources.get(item.name), settings.ignored_env_file
    env = item.metadata["env"]
    if ignored is None or env not in ignored.names:
        return source
    note = f"{env} in {ignored.path} is ignored: {ignored.reason}"
    return f"{source or 'the default'}; {note}"


def one_line(value: object) -> str:
    """Return the value in one line: a system prompt may have several."""
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else " ".join(str(value).split())


def shown_value(item: "Field[Any]", settings: Settings) -> Any:  # noqa: ANN401 - as JSON has it
    """Return the setting's value as it may be shown: secrets are masked."""
    from pathlib import Path

    value = getattr(settings, item.name)
    if item.name == "database_url":
        value = value or settings.database
    elif item.name == "data_dir":
        value = settings.data_path
    elif item.name == "tokens" and value:
        return ",".join(f"{part.partition('=')[0].strip()}=***" for part in parse_list(value))
    elif item.metadata["secret"] and value:
        return f"…{value[-SHOWN_OF_SECRET:]}" if len(value) >= LONG_SECRET else "set"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        try:
            return settings.redact(without_password(value) if "://" in value else value)
        except ValueError:
            return "set"
    return value


def _field(name: str) -> "Field[Any]":
    from difflib import get_close_matches

    item = setting_field(name)
    if item is None:
        names = [each.name for each in setting_fields()]
        meant = get_close_matches(name, names, 1)
        raise InvalidRequest(
            f"There is no setting {name!r}.",
            f"Did you mean {meant[0]}?" if meant else f"The settings are {', '.join(names)}.",
        )
    return item


def _for_file(item: "Field[Any]", text: str) -> object:
    """The value as it stands in TOML."""
    if not text:
        raise InvalidRequest(
            f"An empty value is none, and {item.name} would keep what it has elsewhere.",
            f"To take it out: qa config unset {item.name}",
        )
    try:
        value = item.metadata["parser"](text)
    except ValueError:
        raise InvalidRequest(
            f"{text!r} is no value for {item.name}: "
            f"it is not {item.metadata['parser'].expectation}.",
            "Nothing was changed.",
        ) from None
    if item.name == "profile":
        _see_profile(text)
    elif item.name == "database_url":
        _ = Settings(database_url=text, sources={"database_url": "the command line"}).database
    elif item.name == "keyring" and "/" not in text:
        return bool(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | float) else text


def _see_profile(name: str) -> None:
    from qacli.config.file import ConfigFile

    file = ConfigFile.read(config_file())
    if chosen_profile() is not None:
        raise InvalidRequest("A profile cannot choose another.", "Leave out --profile.")
    if name not in file.profiles:
        raise InvalidRequest(
            f"There is no profile {name!r} in {file.path}.",
            f"The profiles there are {', '.join(file.profiles)}."
            if file.profiles
            else "Make one first: qa --profile NAME config set model NAME",
        )


def _refuse_secret(item: "Field[Any]", text: str) -> None:
    try:
        bare = without_password(text) if "://" in text else text
    except ValueError:
        bare = text
    environment = f"put it into the environment as {item.metadata['env']}"
    if item.name == "api_key":
        todo = (
            "Put it into the keyring: qa config key set; or say how to get it: qa config set "
            f"key_command 'pass show openai'; or {environment}."
        )
    elif item.metadata["secret"] and (item.name != "database_url" or bare != text):
        todo = f"Instead, {environment}."
    elif Settings().redact(bare) != text:
        todo = "Give it without the key or the password; qa config key set keeps a key."
    else:
        return
    raise InvalidRequest(
        f"{item.name} would be a secret in a file, and in your shell's history.", todo
    )


def _place() -> str:
    profile = chosen_profile()
    return f"{config_file()}" + (f", profile {profile}" if profile is not None else "")


def _write(name: str, value: object, console: Console) -> None:
    """Change one setting in the file, in the chosen profile where there is one."""
    from qacli.config.file import ConfigFile

    file = ConfigFile.read(config_file())
    file.write(file.changed(chosen_profile(), name, value))
    done = "no longer set" if value is None else "set"
    console.info(f"{name} is {done} in {_place()}.")


def _tell_what_beats(name: str, console: Console) -> None:
    """Say it where what was just set does not count."""
    from qacli.config import loader as configuration

    try:
        source = configuration.load_settings().sources.get(name, "")
    except NotConfigured as error:
        console.warning(f"qa: {error}")
        return
    if not source.endswith(f"in {config_file()}") or (
        chosen_profile() is None and " of profile " in source
    ):
        console.warning(f"{name} does not count as set there; it comes from {source}.")
