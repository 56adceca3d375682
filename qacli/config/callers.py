"""The callers of `qa serve`: their names and tokens in the settings `token` and `tokens`."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from qacli.config.parsers import Parser, parse_list
from qacli.errors import NotConfigured

DEFAULT_CALLER = "default"
"""The caller's name on records that are asked with the token of the setting `token`."""

ADMIN = "admin:"
"""The prefix of an administrator's name in the setting `tokens`."""

MIN_TOKEN_LENGTH = 16
"""Minimum length of a token: a shorter one can be guessed."""


class Caller(NamedTuple):
    """A client of the server.

    Attributes:
        name: Its name in the settings; None if the server has no tokens.
        is_admin: It may read and delete the records of all callers.
    """

    name: str | None
    is_admin: bool

    @property
    def owner(self) -> str | None:
        """The only caller whose records it may use; None means all records."""
        return None if self.is_admin else self.name


LOCAL_CALLER = Caller(None, is_admin=True)
"""The caller of a server without tokens: the user of this machine."""


def named_tokens(text: str | None) -> dict[str, str]:
    """Parse `admin:alice=token1,bob=token2` into the tokens by the names of their callers."""
    pairs = (part.partition("=") for part in parse_list(text))
    return {name.strip().removeprefix(ADMIN): token.strip() for name, _, token in pairs}


def administrators(text: str | None) -> set[str]:
    """Return the names in `admin:alice=token1,bob=token2` that have the prefix `admin:`."""
    names = (part.partition("=")[0].strip() for part in parse_list(text))
    return {name.removeprefix(ADMIN) for name in names if name.startswith(ADMIN)}


def parse_tokens(text: str) -> str:
    """Check the syntax of `admin:alice=token1,bob=token2`.

    Raises:
        ValueError: A name or a token is missing or occurs twice, or a name is not 1 to 64 of
            letters, digits, `_`, `.`, `@` and `-`, or is `default`.
    """
    tokens = named_tokens(text)
    are_different = len(tokens) == len(parse_list(text)) == len(set(tokens.values()))
    are_names = all(re.fullmatch(r"[\w.@-]{1,64}", name, re.ASCII) for name in tokens)
    if not (tokens and are_different and are_names and all(tokens.values())):
        raise ValueError
    if DEFAULT_CALLER in tokens:
        raise ValueError
    return text


def check_tokens(tokens: Mapping[str, str]) -> None:
    """Check the length of each token, and that no two callers have the same one.

    Args:
        tokens: The tokens by the names of their callers.

    Raises:
        NotConfigured: A token is too short, or two callers have the same one.
    """
    callers: dict[str, str] = {}
    for name, token in tokens.items():
        setting = "QA_TOKEN" if name == DEFAULT_CALLER else f"{name} in QA_TOKENS"
        if len(token) < MIN_TOKEN_LENGTH:
            raise NotConfigured(
                f"The token of {setting} has {len(token)} characters; "
                f"a token needs {MIN_TOKEN_LENGTH} or more.",
                "Make one: openssl rand -hex 32",
            )
        if token in callers:
            raise NotConfigured(
                f"The token of {setting} is also the token of {callers[token]}.",
                "Give each caller a token of its own: openssl rand -hex 32",
            )
        callers[token] = name


TOKENS = Parser(
    parse_tokens,
    "different tokens of different callers, each as name=token or admin:name=token, separated by "
    "commas",
)
