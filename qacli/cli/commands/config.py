"""`qa config`: show and change the settings."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.command import App
from qacli.cli.commands import config_trust, config_use
from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.setting_values import one_line, visible_tables, visible_value
from qacli.cli.settings import load_settings
from qacli.config.loader import chosen_profile, config_file
from qacli.config.settings import (
    Settings,
    setting_field,
    setting_fields,
)
from qacli.errors import InvalidRequest, NotConfigured
from qacli.redaction import without_password
from qacli.suggestions import did_you_mean

if TYPE_CHECKING:
    from qacli.config.declaration import Setting

EPILOG = (
    "\b\nExamples:\n"
    "  qa config                          every setting with its source\n"
    "  qa config --json | jq .model.value\n"
    "  qa config set model gpt-6-luna\n"
    "  qa config set key_command 'pass show openai'\n"
    "  qa --profile work config set base_url https://llm.example.com/v1\n"
    "  qa config use groq                 write a profile for a known provider\n"
    "  qa --profile work config key set   save the API key in the keyring\n"
    '  qa --profile work ask "Who am I?"\n'
    "  qa config unset model\n"
    "  qa config set aliases.fast gpt-6-luna\n"
    "  qa config set models.gpt-6-luna.temperature 0.2\n"
    "  qa --profile work config set headers.X-Team '$TEAM'\n"
    "  qa config trust                    trust the .env file in this directory"
)

commands = App()
key_commands = App(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="SETTING", help="Setting, as qa config lists it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
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
    if "." in name:
        _write(_table_path(name), _parse_table_value(name, value), console)
        return
    item = _field(name)
    _refuse_secret(item, value)
    _write(_path(name), _for_file(item, value), console)
    _warn_if_overridden(name, console)


@commands.command()
def unset(context: typer.Context, name: Name) -> None:
    """Remove a setting from the configuration file.

    With qa --profile or QA_PROFILE, from that profile.
    """
    from qacli.config.file import ConfigFile

    console = Console.from_context(context)
    path = _table_path(name) if "." in name else _path(name)
    tables: Any = ConfigFile.read(config_file()).tables
    for part in path:
        tables = tables.get(part) if isinstance(tables, dict) else None
    # An unknown name makes every other command fail; this one removes it.
    if tables is None:
        if "." not in name:
            _field(name)
        console.info(f"{name} is not set in {_place()}.")
        return
    _write(path, None, console)


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
    credentials.save_key(settings, credentials.parse_typed_key(text))
    console.info(f"Saved in the keyring as {service}/{user}.")
    if settings.keyring is None:
        _write(_path("keyring"), True, console)  # noqa: FBT003 - TOML's true
    _warn_if_overridden("keyring", console)


@key_commands.command("unset")
def unset_key(context: typer.Context) -> None:
    """Remove the API key from the system keyring."""
    from qacli.config import credentials

    console = Console.from_context(context)
    settings = load_settings(console)
    name = "/".join(credentials.keyring_entry(settings))
    if credentials.delete_key(settings):
        console.info(f"Removed {name} from the keyring.")
    else:
        console.info(f"The keyring has no {name}.")
    if settings.keyring:
        console.info("If you do not replace the key, also run: qa config unset keyring")


def _show(console: Console, *, as_json: bool) -> None:
    from shutil import get_terminal_size

    settings = load_settings(console)
    values: dict[str, dict[str, Any]] = {
        item.name: {
            "value": visible_value(item, settings),
            "source": _source(item, settings),
            "env": item.env,
        }
        for item in setting_fields()
    }
    for name, table in visible_tables(settings).items():
        values[name] = {"value": table, "source": str(settings.config_path), "env": None}
    if as_json:
        console.print_json(values)
        return
    texts = {name: one_line(entry["value"]) for name, entry in values.items()}
    name_width = max(map(len, texts))
    value_width = min(max(map(len, texts.values())), 40)
    columns = get_terminal_size().columns if console.is_terminal else None
    for name, value in texts.items():
        source = values[name]["source"] or "the default"
        line = f"{name:{name_width}}  {value:{value_width}}  {source}"
        if columns is not None and len(line) > columns:
            # Too long for the screen: put the source on a line of its own.
            console.print(f"{name:{name_width}}  {value}")
            indent = name_width if name_width + 2 + len(source) <= columns else 2
            line = f"{'':{indent}}  {source}"
        console.print(line)


def _source(item: "Setting", settings: Settings) -> str | None:
    """Return the source of the value, with a note on an ignored `.env` that sets it."""
    source, ignored = settings.sources.get(item.name), settings.ignored_env_file
    env = item.env
    if item.name == "profile" and source == f"the environment variable {env}":
        source = f"--profile or {source}"  # the option sets the variable
    if ignored is None or env not in ignored.names:
        return source
    note = f"{env} in {ignored.path} is ignored: {ignored.reason}"
    return f"{source or 'the default'}; {note}"


def _field(name: str) -> "Setting":
    item = setting_field(name)
    if item is None:
        names = [field.name for field in setting_fields()]
        raise InvalidRequest(
            f"There is no setting {name!r}.",
            did_you_mean(name, names).strip() or f"The settings are {', '.join(names)}.",
        )
    return item


def _for_file(item: "Setting", text: str) -> object:
    """Return the value for the TOML file."""
    if not text:
        raise InvalidRequest(
            "The value is empty.", f"To remove the setting: qa config unset {item.name}"
        )
    try:
        value = item.parser(text)
    except ValueError:
        raise InvalidRequest(
            f"Invalid value {text!r} for {item.name}: it is not {item.parser.expectation}.",
            "Nothing was changed.",
        ) from None
    if item.name == "profile":
        _check_profile(text)
    elif item.name == "database_url":
        _ = Settings(database_url=text, sources={"database_url": "the command line"}).database
    elif item.name == "keyring" and "/" not in text:
        return bool(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | float) else text


def _check_profile(name: str) -> None:
    from qacli.config.file import ConfigFile

    file = ConfigFile.read(config_file())
    if chosen_profile() is not None:
        raise InvalidRequest("A profile cannot select another profile.", "Leave out --profile.")
    if name not in file.profiles:
        raise InvalidRequest(
            f"There is no profile {name!r} in {file.path}.",
            f"The profiles there are {', '.join(file.profiles)}."
            if file.profiles
            else "Make one first: qa --profile NAME config set model NAME",
        )


def _refuse_secret(item: "Setting", text: str) -> None:
    try:
        bare = without_password(text) if "://" in text else text
    except ValueError:
        bare = text
    environment = f"set the environment variable {item.env}"
    if item.name == "api_key":
        todo = (
            "Save it in the keyring: qa config key set; or set a command that prints it: "
            f"qa config set key_command 'pass show openai'; or {environment}."
        )
    elif item.secret and (item.name != "database_url" or bare != text):
        todo = f"Instead, {environment}."
    elif Settings().redact(bare) != text:
        todo = "Set it without the key or the password; qa config key set saves a key."
    else:
        return
    raise InvalidRequest(
        f"{item.name} would store a secret in a file and in the shell history.", todo
    )


def _place() -> str:
    profile = chosen_profile()
    return f"{config_file()}" + (f", profile {profile}" if profile is not None else "")


def _path(name: str) -> tuple[str, ...]:
    """Return the tables of a setting in the file and its name, in the chosen profile if any."""
    from qacli.config.file import PROFILES

    profile = chosen_profile()
    return (name,) if profile is None else (PROFILES, profile, name)


def _table_path(name: str) -> tuple[str, ...]:
    """Return the path of an entry of a table, such as `aliases.fast` or `models.NAME.seed`.

    Raises:
        InvalidRequest: There is no such table, or the name has no entry.
    """
    from qacli.config.tables import ALIASES, EXTRA_BODY, HEADERS, MODELS

    table, _, entry = name.partition(".")
    # The name of a model may have dots itself.
    model, _, option = entry.rpartition(".")
    paths = {
        ALIASES: (ALIASES, entry),
        MODELS: (MODELS, model, option),
        HEADERS: (*_path(HEADERS), entry),
        EXTRA_BODY: (*_path(EXTRA_BODY), *entry.split(".")),
    }
    path = paths.get(table, ())
    if not path or not all(path):
        raise InvalidRequest(
            f"There is no setting {name!r}.",
            "Tables are aliases.NAME, models.MODEL.OPTION, headers.NAME and extra_body.NAME.",
        )
    return path


def _parse_table_value(name: str, text: str) -> object:
    """Return a value for a table; JSON if it can be, but aliases and headers are text."""
    from qacli.config.tables import ALIASES, HEADERS
    from qacli.model_options import parse_value
    from qacli.redaction import SECRET_HEADER

    table, _, entry = name.partition(".")
    if table == HEADERS and SECRET_HEADER.search(entry) and "$" not in text:
        raise InvalidRequest(
            f"{name} would store a secret in a file and in the shell history.",
            f"Name a variable of the environment: qa config set {name} '$NAME'",
        )
    return text if table in {ALIASES, HEADERS} else parse_value(text)


def _write(path: tuple[str, ...], value: object, console: Console) -> None:
    """Change one value in the file.

    Raises:
        InvalidRequest: A table would have a value that cannot be used; nothing is changed.
    """
    import tomllib

    from qacli.config.file import ConfigFile
    from qacli.config.tables import read_tables

    file = ConfigFile.read(config_file())
    text = file.changed(path, value)
    if value is not None:
        try:
            after = ConfigFile(file.path, text, tomllib.loads(text))
            read_tables(after, chosen_profile(), with_endpoint=True)
        except NotConfigured as error:
            raise InvalidRequest(error.what, error.todo) from None
    file.write(text)
    done = "no longer set" if value is None else "set"
    name = ".".join(part for part in path if part not in {"profiles", chosen_profile()})
    console.info(f"{name} is {done} in {_place()}.")


def _warn_if_overridden(name: str, console: Console) -> None:
    """Print a warning if another source overrides the setting."""
    from qacli.config import loader as configuration

    try:
        source = configuration.load_settings().sources.get(name, "")
    except NotConfigured as error:
        console.warning(f"qa: {error}")
        return
    _, unused, reason = source.partition(", not used: ")
    if unused:
        console.warning(f"{name} is not used: {reason}.")
    elif not source.endswith(f"in {config_file()}") or (
        chosen_profile() is None and " of profile " in source
    ):
        console.warning(f"{name} is overridden by {source}.")


# Registered last, because that is their order in the help.
commands.add_typer(key_commands, name="key", help="Manage the API key in the system keyring.")
config_trust.register(commands)
config_use.register(commands)
