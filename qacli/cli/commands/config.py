"""`qa config`: every setting, where it came from, and how to change it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.command import App
from qacli.cli.commands import config_trust
from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.setting_values import one_line, visible_value
from qacli.cli.settings import load_settings
from qacli.config.database_url import without_password
from qacli.config.loader import chosen_profile, config_file
from qacli.config.settings import (
    PARSER_EXPECTATIONS,
    Settings,
    parse_setting,
    setting_field,
    setting_fields,
)
from qacli.errors import InvalidRequest, NotConfigured

if TYPE_CHECKING:
    from dataclasses import Field

EPILOG = (
    "\b\nExamples:\n"
    "  qa config                          every setting, and where it came from\n"
    "  qa config --json | jq .model.value\n"
    "  qa config set model gpt-5-mini\n"
    "  qa config set key_command 'pass show openai'\n"
    "  qa --profile work config set base_url https://llm.example.com/v1\n"
    "  qa --profile work config key set   save the API key in the keyring\n"
    '  qa --profile work ask "Who am I?"\n'
    "  qa config unset model\n"
    "  qa config trust                    trust the .env file in this directory"
)

commands = App()
key_commands = App(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Setting, as qa config lists it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands.add_typer(key_commands, name="key", help="Manage the API key in the system keyring.")
    config_trust.register(commands)
    app.add_typer(commands, name="config", epilog=EPILOG)


@commands.callback(invoke_without_command=True)
def config(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the settings and change them."""
    if context.invoked_subcommand is None:
        _show(Console.from_context(context), as_json=as_json)


@commands.command()
def show(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show every setting, its value, and where it came from."""
    _show(Console.from_context(context), as_json=as_json)


@commands.command()
def path(context: typer.Context) -> None:
    """Print the path of the configuration file."""
    Console.from_context(context).print(str(config_file()))


@commands.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    context: typer.Context,
    name: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="New value.")],
) -> None:
    """Write a setting into the configuration file.

    With qa --profile or QA_PROFILE, into that profile. Secrets are refused.
    """
    console = Console.from_context(context)
    item = _field(name)
    _refuse_secret(item, value)
    _write(name, _for_file(item, value), console)
    _tell_what_beats(name, console)


@commands.command()
def unset(context: typer.Context, name: Name) -> None:
    """Remove a setting from the configuration file.

    With qa --profile or QA_PROFILE, from that profile.
    """
    from qacli.config.file import ConfigFile

    console = Console.from_context(context)
    # An unknown name makes every other command fail; this one removes it.
    if name not in ConfigFile.read(config_file()).table(chosen_profile()):
        _field(name)
        console.info(f"{name} is not set in {_place()}.")
        return
    _write(name, None, console)


@key_commands.command("set")
def set_key(context: typer.Context) -> None:
    """Save the API key in the system keyring.

    It is prompted for and not shown, or read from standard input if that is not a terminal.
    """
    from qacli.config import credentials

    console = Console.from_context(context)
    settings = load_settings(console)
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
def unset_key(context: typer.Context) -> None:
    """Remove the API key from the system keyring."""
    from qacli.config import credentials

    console = Console.from_context(context)
    settings = load_settings(console)
    name = "/".join(credentials.keyring_entry(settings))
    if credentials.delete_key(settings):
        console.info(f"The keyring no longer has {name}.")
    else:
        console.info(f"The keyring has no {name}.")
    if settings.keyring:
        console.info("If no other key takes its place, also: qa config unset keyring")


def _show(console: Console, *, as_json: bool) -> None:
    from shutil import get_terminal_size

    settings = load_settings(console)
    found = {
        item.name: {
            "value": visible_value(item, settings),
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
        value = parse_setting(item, text)
    except ValueError:
        raise InvalidRequest(
            f"{text!r} is no value for {item.name}: "
            f"it is not {PARSER_EXPECTATIONS[item.metadata['parse']]}.",
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
