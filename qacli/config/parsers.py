"""How the settings about clients of the server are written: tokens, origins, rates.

Each is a text with commas between; what is not written well is refused when the settings are
read, and not when the first client calls.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from qacli.errors import NotConfigured

DEFAULT_CALLER = "default"
"""The caller's name on the records asked with the setting `token`, which has none of its own."""

ADMIN = "admin:"
"""The prefix of an administrator's name in the setting `tokens`."""

SHORTEST_TOKEN = 16
"""Characters that a token of the server has at least: a shorter one can be guessed."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of the server.

    Attributes:
        name: Its name in the settings; None where the server has no tokens.
        is_admin: It may see and remove the records of all callers.
    """

    name: str | None
    is_admin: bool

    @property
    def owner(self) -> str | None:
        """The caller whose records alone it may use; None means all records."""
        return None if self.is_admin else self.name


LOCAL = Caller(None, is_admin=True)
"""The caller of a server without tokens: the one person on this machine."""


def parse_list(text: str | None) -> list[str]:
    """What stands in a setting with commas between."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def named_tokens(text: str | None) -> dict[str, str]:
    """Return the tokens in `admin:alice=token1,bob=token2` by the names alone."""
    pairs = (part.partition("=") for part in parse_list(text))
    return {name.strip().removeprefix(ADMIN): token.strip() for name, _, token in pairs}


def administrators(text: str | None) -> set[str]:
    """Return the names in `admin:alice=token1,bob=token2` that are marked."""
    names = (part.partition("=")[0].strip() for part in parse_list(text))
    return {name.removeprefix(ADMIN) for name in names if name.startswith(ADMIN)}


def parse_tokens(text: str) -> str:
    """Check tokens, each with a name.

    Raises:
        ValueError: A name or a token is missing or there twice, or a name is more than a word.
    """
    named = named_tokens(text)
    unlike = len(named) == len(parse_list(text)) == len(set(named.values()))
    words = all(re.fullmatch(r"[\w.@-]{1,64}", name, re.ASCII) for name in named)
    if not (named and unlike and words and all(named.values())) or DEFAULT_CALLER in named:
        raise ValueError
    return text


def check_tokens(tokens: Mapping[str, str]) -> None:
    """Check that no token can be guessed, and that each belongs to one caller.

    Args:
        tokens: The tokens by the names of their callers.

    Raises:
        NotConfigured: A token is too short, or two callers have the same one.
    """
    seen: dict[str, str] = {}
    for name, token in tokens.items():
        of_one = name == DEFAULT_CALLER
        setting = "The token of QA_TOKEN" if of_one else f"The token of {name} in QA_TOKENS"
        if len(token) < SHORTEST_TOKEN:
            raise NotConfigured(
                f"{setting} has {len(token)} characters; a token needs {SHORTEST_TOKEN} or more.",
                "Make one: openssl rand -hex 32",
            )
        if token in seen:
            raise NotConfigured(
                f"{setting} is also the token of {seen[token]}.",
                "Give each caller a token of its own: openssl rand -hex 32",
            )
        seen[token] = name


def parse_origins(text: str) -> str:
    """Origins as a browser sends them: nothing that could stand for more than one.

    Raises:
        ValueError: One of them has a path, a wildcard or anything else that no origin has.
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


def parse_seconds(text: str) -> float:
    """Parse a time in seconds, above 0 and below 1e7.

    Raises:
        ValueError: The text is something else.
    """
    value = float(text)
    if not 0 < value < 1e7:  # noqa: PLR2004 - four months; beyond it, a slip of the finger
        raise ValueError
    return value


def parse_non_negative(text: str) -> int:
    """Parse a whole number that is 0 or more.

    Raises:
        ValueError: The text is something else.
    """
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def parse_positive(text: str) -> int:
    """Parse a whole number that is 1 or more.

    Raises:
        ValueError: The text is something else.
    """
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def parse_port(text: str) -> int:
    """Parse a TCP port, 0 to 65535.

    Raises:
        ValueError: The text is something else.
    """
    value = int(text)
    if not 0 <= value <= 65535:  # noqa: PLR2004 - the range of a TCP port
        raise ValueError
    return value


def parse_url(text: str) -> str:
    """Parse an http or https URL; a trailing slash is removed.

    Raises:
        ValueError: The text is something else.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError
    return text.rstrip("/")


def parse_path(text: str) -> Path:
    """Parse a path; `~` is the home directory."""
    return Path(text).expanduser()


def parse_command(text: str) -> str:
    """Parse a shell command; it must have a word.

    Raises:
        ValueError: The text is something else.
    """
    if not shlex.split(text):
        raise ValueError
    return text


def parse_keyring(text: str) -> str | None:
    """Parse `true`, `false` (None) or the name of a keyring entry, `service/user`.

    Raises:
        ValueError: The text is something else.
    """
    if text.lower() in {"true", "false", "1", "0"}:
        return "true" if text.lower() in {"true", "1"} else None
    service, _, user = text.partition("/")
    if not (service and user):
        raise ValueError
    return text


def parse_on_disconnect(text: str) -> str:
    """Parse `complete` or `interrupt`.

    Raises:
        ValueError: The text is something else.
    """
    if text not in {"complete", "interrupt"}:
        raise ValueError
    return text
