"""How the settings about clients of the server are written: tokens, origins, rates.

Each is a text with commas between; what is not written well is refused when the settings are
read, and not when the first client calls.
"""

import re
from urllib.parse import urlsplit

UNNAMED = "default"
"""The name on the record of whoever asked with the setting `token`, which has none of its own."""


def listed(text: str | None) -> list[str]:
    """What stands in a setting with commas between."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def named_tokens(text: str | None) -> dict[str, str]:
    """The tokens in `alice=secret1,bob=secret2`, by their names."""
    pairs = (part.partition("=") for part in listed(text))
    return {name.strip(): token.strip() for name, _, token in pairs}


def parse_tokens(text: str) -> str:
    """Tokens, each with a name.

    Raises:
        ValueError: A name or a token is missing or there twice, or a name is more than a word.
    """
    named = named_tokens(text)
    unlike = len(named) == len(listed(text)) == len(set(named.values()))
    words = all(re.fullmatch(r"[\w.@-]{1,64}", name, re.ASCII) for name in named)
    if not (named and unlike and words and all(named.values())) or UNNAMED in named:
        raise ValueError
    return text


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
