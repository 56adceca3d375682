"""`qa config use`: write the profile of a known provider, and try it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from qacli.cli.console import Console
from qacli.config.loader import choose_profile, config_file, load_settings
from qacli.errors import InvalidRequest, NotConfigured
from qacli.suggestions import did_you_mean

if TYPE_CHECKING:
    from qacli.config.providers import KnownProvider
    from qacli.config.settings import Settings

QUESTION = "Answer with the word yes."
AZURE = "azure"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("use")(use)


def use(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="PROVIDER", help="Provider; without it, list them.", show_default=False
        ),
    ] = None,
    *,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Base URL, if it is not the usual one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Model of the profile.")
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Use the profile if none is chosen.")
    ] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not try the profile with a question.")
    ] = False,
) -> None:
    """Write a profile for a provider and try it with one question.

    The profile has the base URL, the variable of the key and a model. If the variable is not set,
    the key is prompted for and saved in the system keyring. Where nothing else is configured, the
    profile is used from then on, as with --default.
    """
    from qacli.config.providers import known_providers

    console = Console.from_context(context)
    if name is None:
        _list(known_providers(), console)
        return
    use_provider(name, console, url=url, model=model, default=default, check=not no_check)


def use_provider(  # noqa: PLR0913 - one parameter an option
    name: str,
    console: Console,
    *,
    url: str | None = None,
    model: str | None = None,
    default: bool = False,
    check: bool = True,
) -> None:
    """Write the profile of a provider, get its key and try it with one question.

    Args:
        name: The name of a known provider, which is the profile's name too.
        console: Prompts for missing values, and prints the results.
        url: The base URL; None for the provider's usual one.
        model: The model of the profile; None for the provider's usual one.
        default: Use the profile if none is chosen, also if it is not the first one.
        check: Try the profile with one question, which is not recorded.

    Raises:
        InvalidRequest: The provider is not known, or a value cannot be used.
        NotConfigured: There is no key, or the server lists no model.
        ProviderError: The provider does not answer the question.
    """
    from qacli.config.providers import known_providers

    providers = known_providers()
    if name not in providers:
        raise InvalidRequest(
            f"There is no provider {name!r}.",
            did_you_mean(name, providers)
            + f"There are {', '.join(providers)}. For another endpoint, set OPENAI_BASE_URL.",
        )
    provider = providers[name]
    before = load_settings()
    values = {
        "base_url": _base_url(name, url or provider.base_url, console),
        "key_variable": provider.key,
        "model": model or provider.model,
    }
    if name == AZURE and values["model"] is None:
        values["model"] = _prompt("Name of the deployment", "--model", console)
    has_other_key = before.api_key and provider.key != "OPENAI_API_KEY"
    is_first = not (before.profile or before.base_url or before.model or has_other_key)
    _write_profile(name, values)
    if default or is_first:
        _write(("profile",), name)
    choose_profile(name)
    console.info(f"The profile {name} is in {config_file()}.")
    settings = _with_key(provider, console)
    if settings.base_url != values["base_url"]:
        source = settings.sources.get("base_url", "")
        console.warning(f"Its base URL is overridden by {source}.")
    if check:
        _check(settings, name, console)
    if default or is_first:
        console.info("It is used where no profile is chosen.")
    else:
        console.info(f"Use it: qa --profile {name} ask ...; always: qa config set profile {name}")


def _list(providers: "dict[str, KnownProvider]", console: Console) -> None:
    from qacli.cli.text_width import align

    rows = [
        [name, item.base_url or "your own URL", item.key or "no key", item.model or "its first"]
        for name, item in providers.items()
    ]
    for line in align(rows):
        console.print(line)


def _base_url(name: str, url: str | None, console: Console) -> str:
    """Return the base URL; the path of the API is added to the URL of an Azure resource.

    Raises:
        InvalidRequest: The base URL is not an http or https URL.
    """
    from qacli.config import parsers

    if url is None:
        url = _prompt("URL of the resource", "--url https://NAME.openai.azure.com", console)
    try:
        url = str(parsers.URL(url))
    except ValueError:
        raise InvalidRequest(f"{url} is not {parsers.URL.expectation}.", "Correct --url.") from None
    if name == AZURE and not urlsplit(url).path.strip("/"):
        url += "/openai/v1"
    return url


def _prompt(label: str, option: str, console: Console) -> str:
    if console.stdin is None or not console.stdin.isatty():
        raise InvalidRequest(f"The {label.lower()} is missing.", f"Add {option}.")
    return str(typer.prompt(label, err=True)).strip()


def _write_profile(name: str, values: dict[str, str | None]) -> None:
    from qacli.config.file import PROFILES, ConfigFile

    existing = ConfigFile.read(config_file()).table(name)
    for setting, value in values.items():
        # If no other model is known, keep the one that the user has chosen earlier for the profile.
        if value is not None or (setting in existing and setting != "model"):
            _write((PROFILES, name, setting), value)


def _write(path: tuple[str, ...], value: object) -> None:
    from qacli.config.file import ConfigFile

    file = ConfigFile.read(config_file())
    file.write(file.changed(path, value))


def _with_key(provider: "KnownProvider", console: Console) -> "Settings":
    """Return the settings of the profile, and prompt for a key if it has no key.

    Without a keyring, the key is saved in a file that only the user can read.
    """
    from qacli.config import credentials
    from qacli.config.file import PROFILES

    settings = load_settings()
    has_key = settings.api_key or settings.key_command or settings.keyring
    if provider.key is None or has_key:
        return settings
    if console.stdin is None or not console.stdin.isatty():
        console.warning(f"{provider.key} is not set.")
        return settings
    text = str(typer.prompt(f"Key (or Ctrl-C, and set {provider.key})", hide_input=True, err=True))
    key, profile = credentials.parse_typed_key(text), str(settings.profile)
    try:
        credentials.save_key(settings, key)
        _write((PROFILES, profile, "keyring"), True)  # noqa: FBT003 - TOML's true
    except NotConfigured:
        path = _save_key_file(profile, key)
        _write((PROFILES, profile, "key_command"), shlex.join(["cat", str(path)]))
        console.info(f"There is no keyring here: the key is in {path}, which only you can read.")
    return load_settings()


def _save_key_file(profile: str, key: str) -> Path:
    """Write the key next to the configuration file, readable by the user alone.

    Raises:
        NotConfigured: The file cannot be written.
    """
    from qacli.private_files import make_private_directory, write_private

    path = config_file().parent / "keys" / profile
    try:
        make_private_directory(path.parent)
        write_private(path, f"{key}\n".encode())
    except OSError as error:
        raise NotConfigured(
            f"The key cannot be saved in {path}: {error.strerror}.", "Set the key's variable."
        ) from error
    return path


def _check(settings: "Settings", name: str, console: Console) -> None:
    """Ask one question, which is not recorded.

    Raises:
        ProviderError: The provider does not answer.
        NotConfigured: There is no key, or the server lists no model.
    """
    from contextlib import closing

    from qacli.config.file import PROFILES
    from qacli.domain import ChatRequest, create_question
    from qacli.provider.endpoint import resolve_endpoint
    from qacli.provider.response import ChatResponse
    from qacli.provider.sync import SyncProvider

    endpoint = resolve_endpoint(settings)
    with (
        console.show_status(endpoint.name),
        closing(SyncProvider(endpoint, settings, on_notice=console.info)) as provider,
    ):
        model = settings.model_name(None)
        if model is None:
            models = provider.models()
            if not models:
                raise NotConfigured(f"{endpoint.name} lists no model.", "Load one, or use --model.")
            model = str(models[0]["id"])
            _write((PROFILES, name, "model"), model)
        params = settings.default_params(model)
        question = create_question(QUESTION, model=model, system=None, params=params)
        response = ChatResponse()
        for _ in provider.stream(ChatRequest(question=question), response):
            pass
    console.info(f"{response.model or model} at {endpoint.name} answers.")
