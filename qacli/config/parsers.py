"""Declare settings, and parse their texts: each parser describes the values that it accepts.

The values are checked when the settings are loaded, so that a mistake is found before a question
is asked or a client connects.
"""

import re
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MIN_SECONDS = sys.float_info.min
MAX_SECONDS = 1e7
"""About four months; a larger number is a typing error."""

MAX_PORT = 65535


class Parser(NamedTuple):
    """A parser of one kind of setting.

    Attributes:
        parse: Converts the text; raises ValueError if it is not acceptable.
        expectation: The acceptable values, to follow "is not" in an error.
        takes_boolean: TOML's true and false are acceptable too.
    """

    parse: Callable[[str], Any]
    expectation: str
    takes_boolean: bool = False

    def __call__(self, value: object) -> Any:  # noqa: ANN401 - of whatever type the setting has
        """Convert a value from a file or from the environment.

        Raises:
            ValueError: The value has the wrong type or is not acceptable.
        """
        if isinstance(value, list | dict) or (isinstance(value, bool) and not self.takes_boolean):
            raise ValueError
        return self.parse(str(value))


def parse_list(text: str | None) -> list[str]:
    """Return the items of a comma-separated list, without spaces around them and empty items."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def parse_origins(text: str) -> str:
    """Check a list of origins, each exact and as a browser sends it (RFC 6454).

    Raises:
        ValueError: An entry has a path, a wildcard or anything else that no origin has.
    """
    for origin in parse_list(text):
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError
        if origin != f"{parts.scheme}://{parts.netloc}" or {"@", "*"} & set(origin):
            raise ValueError
    return text


def parse_rates(text: str) -> str:
    """Check a list of rates such as `60/minute`.

    Raises:
        ValueError: An entry of the list is not a rate.
    """
    for rate in parse_list(text):
        if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", rate):
            raise ValueError
    return text


def parse_routes(text: str) -> dict[str, str]:
    """Parse `llama-*=groq,fast=groq/small` into the upstream of each pattern.

    Raises:
        ValueError: A pattern or an upstream is missing, or a pattern occurs twice.
    """
    routes: dict[str, str] = {}
    for part in parse_list(text):
        pattern, _, upstream = (word.strip() for word in part.partition("="))
        if not pattern or not upstream or pattern in routes:
            raise ValueError
        routes[pattern] = upstream
    return routes


def parse_fallbacks(text: str) -> dict[str, tuple[str, ...]]:
    """Parse `groq=openrouter local,work=groq` into the upstreams that are asked after each.

    Raises:
        ValueError: See `parse_routes`.
    """
    return {pattern: tuple(names.split()) for pattern, names in parse_routes(text).items()}


def _parse_number(
    kind: Callable[[str], float], minimum: float, maximum: float = inf
) -> Callable[[str], float]:
    """Return a parser of an `int` or a `float` in a closed range."""

    def parse(text: str) -> float:
        value = kind(text)
        if not minimum <= value <= maximum:  # also false for NaN
            raise ValueError
        return value

    return parse


OPERATION = r"/+(chat/completions|completions|responses)/*$"
"""The end of an address of a request; documentation shows it more often than the base URL."""


def _parse_url(text: str) -> str:
    """Check an http or https URL; the path of an operation and a slash at its end are removed."""
    text = text.strip()
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError
    address, mark, query = text.partition("?")
    return re.sub(OPERATION, "", address).rstrip("/") + mark + query


def _parse_path(text: str) -> Path:
    return Path(text).expanduser()


def _parse_command(text: str) -> str:
    import shlex

    if not shlex.split(text):
        raise ValueError
    return text


def _parse_keyring(text: str) -> str | None:
    """Parse `true`, `false` (None) or the name of a keyring entry, `service/user`."""
    if text.lower() in {"true", "false", "1", "0"}:
        return "true" if text.lower() in {"true", "1"} else None
    service, _, user = text.partition("/")
    if not (service and user):
        raise ValueError
    return text


def _parse_boolean(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError from None


def _parse_pattern(pattern: str) -> Callable[[str], str]:
    """Return a parser of the texts that match a regular expression as a whole."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError
        return text

    return parse


TEXT = Parser(str, "text")
SECONDS = Parser(_parse_number(float, MIN_SECONDS, MAX_SECONDS), "a number of seconds above 0")
NON_NEGATIVE = Parser(_parse_number(int, 0), "a whole number, 0 or more")
POSITIVE = Parser(_parse_number(int, 1), "a whole number, 1 or more")
TEMPERATURE = Parser(_parse_number(float, 0, 2), "a number from 0 to 2")
PORT = Parser(_parse_number(int, 0, MAX_PORT), "a port number, 0 to 65535")
BOOLEAN = Parser(_parse_boolean, "true or false", takes_boolean=True)
URL = Parser(_parse_url, "an http:// or https:// address")
PATH = Parser(_parse_path, "a path")
COMMAND = Parser(_parse_command, "a command with its arguments")
VARIABLE = Parser(_parse_pattern(r"[A-Za-z_]\w*"), "the name of an environment variable")
KEYRING = Parser(_parse_keyring, "true, false or an entry as service/user", takes_boolean=True)
ORIGINS = Parser(
    parse_origins, "exact origins such as https://app.example.com, separated by commas"
)
RATES = Parser(parse_rates, "a rate such as 60/minute, or several separated by commas")
ON_DISCONNECT = Parser(_parse_pattern("complete|interrupt"), "complete or interrupt")
ROUTES = Parser(parse_routes, "a list such as llama-*=groq,fast=groq/small")
FALLBACKS = Parser(parse_fallbacks, "a list such as groq=openrouter local,work=groq")
API = Parser(_parse_pattern("auto|chat|responses"), "auto, chat or responses")
