"""How the settings about clients of the server are written: tokens, origins, rates.

Each is a text with commas between; what is not written well is refused when the settings are
read, and not when the first client calls.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from qacli.errors import NotConfigured

UNNAMED = "default"
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


def listed(text: str | None) -> list[str]:
    """What stands in a setting with commas between."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def named_tokens(text: str | None) -> dict[str, str]:
    """Return the tokens in `admin:alice=token1,bob=token2` by the names alone."""
    pairs = (part.partition("=") for part in listed(text))
    return {name.strip().removeprefix(ADMIN): token.strip() for name, _, token in pairs}


def administrators(text: str | None) -> set[str]:
    """Return the names in `admin:alice=token1,bob=token2` that are marked."""
    names = (part.partition("=")[0].strip() for part in listed(text))
    return {name.removeprefix(ADMIN) for name in names if name.startswith(ADMIN)}


def parse_tokens(text: str) -> str:
    """Check tokens, each with a name.

    Raises:
        ValueError: A name or a token is missing or there twice, or a name is more than a word.
    """
    named = named_tokens(text)
    unlike = len(named) == len(listed(text)) == len(set(named.values()))
    words = all(re.fullmatch(r"[\w.@-]{1,64}", name, re.ASCII) for name in named)
    if not (named and unlike and words and all(named.values())) or UNNAMED in named:
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
        of_one = name == UNNAMED
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
    for origin in listed(text):
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError
        if origin != f"{parts.scheme}://{parts.netloc}" or {"@", "*"} & set(origin):
            raise ValueError
    return text


def parse_rates(text: str) -> str:
    """Rates such as `60/minute`.

    Raises:
        ValueError: One of them is none.
    """
    for rate in listed(text):
        if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", rate):
            raise ValueError
    return text
