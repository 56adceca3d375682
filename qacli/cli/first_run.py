"""`qa` alone on a terminal, with nothing configured: set up a provider and ask a first question."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import typer

from qacli.cli.console import Console
from qacli.config.loader import environment, load_settings
from qacli.errors import QaError

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT_SECONDS = 0.2
ANSWER_SECONDS = 1.0
"""Time limit for the list of models; a local server with many of them reads their files first."""

MAX_LIST_BYTES = 1 << 20

LOOPBACK = "localhost"

FIRST_QUESTION = "What is the capital of France?"


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server of OpenAI's API on this machine.

    Attributes:
        name: Its name in `qacli/data/providers.toml`.
        base_url: Its URL.
        models: The names of the models that it lists.
    """

    name: str
    base_url: str
    models: list[str]


def should_offer_setup() -> bool:
    """Return whether to offer the set-up: no key, URL, model or profile is configured.

    Nothing is offered if the settings have an error: the help is shown, and a command names it.
    """
    from qacli.config import credentials

    try:
        settings = load_settings()
    except QaError:
        return False
    names = (settings.base_url, settings.model, settings.profile, settings.local_model)
    return not (credentials.is_configured(settings) or any(names))


def set_up(console: Console) -> str:
    """Offer the ways to an answer, set up the one that the user chooses, and return a question.

    Raises:
        QaError: The chosen way cannot be set up.
        typer.Abort: The user has pressed Ctrl-C or Ctrl-D.
    """
    from qacli.cli.commands.config_use import use_provider
    from qacli.cli.commands.local import install_local_model
    from qacli.config.providers import known_providers

    def ask_for_provider() -> None:
        names = [name for name, item in known_providers().items() if item.key]
        console.print_message(f"\nThe providers: {', '.join(names)}.")
        use_provider(_choose("Provider", names), console, default=True)

    def use_server(server: LocalServer) -> None:
        use_provider(server.name, console, url=server.base_url, default=True)

    choices: dict[str, Callable[[], None]] = {
        f"{name}, with the key in {item.key}": partial(use_provider, name, console, default=True)
        for name, item in known_providers().items()
        if item.key and environment().get(item.key)
    }
    for server in find_local_servers(usual_addresses()):
        text = f"{server.name} at {server.base_url}, which has {_listed(server)}"
        choices[text] = partial(use_server, server)
    choices["a provider with an API key: OpenAI, Anthropic, Gemini, Groq, ..."] = ask_for_provider
    choices["a small model on this machine: no key, 130 MB, often wrong"] = partial(
        install_local_model, console
    )
    console.print_message(
        "qa asks a language model, and keeps the questions and answers in your database."
    )
    console.print_message("Choose the source of the answers:\n")
    for number, text in enumerate(choices, start=1):
        console.print_message(f"  {number}  {text}")
    console.print("")
    chosen = _choose("Number", [str(number) for number in range(1, len(choices) + 1)])
    list(choices.values())[int(chosen) - 1]()
    console.print_message("\nSettings: qa config. Help: qa --help.")
    return str(typer.prompt("\nYour question", default=FIRST_QUESTION))


def usual_addresses() -> dict[str, str]:
    """Return the names and base URLs of the known providers on this machine that need no key."""
    from qacli.config.providers import known_providers

    return {
        name: item.base_url
        for name, item in known_providers().items()
        if item.base_url and not item.key and urlsplit(item.base_url).hostname == LOOPBACK
    }


def find_local_servers(urls: dict[str, str]) -> list[LocalServer]:
    """Return those of the servers that run and list a model.

    Args:
        urls: The name and the base URL of each server.
    """
    with ThreadPoolExecutor(len(urls)) as pool:
        lists = pool.map(_models_at, urls.values())
        return [
            LocalServer(name, url, models)
            for (name, url), models in zip(urls.items(), lists, strict=True)
            if models
        ]


def _models_at(base_url: str) -> list[str]:
    """Return the names of the models of a server; empty if it is not one, or has none."""
    address = urlsplit(base_url)
    models: Any = None
    with suppress(OSError, ValueError):
        host, port = address.hostname or LOOPBACK, address.port or 80
        socket.create_connection((host, port), CONNECT_SECONDS).close()
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"{base_url}/models", timeout=ANSWER_SECONDS) as response:
            models = json.loads(response.read(MAX_LIST_BYTES))
    data = models.get("data") if isinstance(models, dict) else None
    return [
        str(model["id"])
        for model in (data if isinstance(data, list) else ())
        if isinstance(model, dict) and model.get("id")
    ]


def _choose(label: str, values: list[str]) -> str:
    """Prompt until one of the values is typed; the first one is the default."""

    def parse(text: str) -> str:
        if text.strip() not in values:
            raise typer.BadParameter(f"Type one of {', '.join(values)}.")
        return text.strip()

    return str(typer.prompt(label, default=values[0], value_proc=parse))


def _listed(server: LocalServer) -> str:
    first, *others = server.models
    return f"{first} and {len(others)} more" if others else first
