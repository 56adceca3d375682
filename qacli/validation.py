"""Checks of texts, tags and numbers that come from outside."""

import re

from qacli.errors import InvalidRequest

MAX_ID = 2**63 - 1
"""The largest id that either database can hold."""


TAG_PATTERN = r"^[^\s\x00-\x1f\x7f-\x9f\ufeff]"
"""The first character of a tag: not white space and not a control character.

The characters are spelled out because `\\s` differs between Python, Rust and JavaScript.
"""


def is_number_between(value: object, least: float, most: float) -> bool:
    """Return whether a JSON value is a number in a closed range; a boolean is not a number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and least <= value <= most  # type: ignore[operator]


def validate_text(text: object, what: str) -> None:
    """Refuse what PostgreSQL cannot hold, before anything is asked.

    Args:
        text: A text, or any JSON value with texts in it.
        what: What it is, for the message.

    Raises:
        InvalidRequest: It holds U+0000 or half a surrogate pair, which no UTF-8 can hold.
    """
    if isinstance(text, dict):
        text = [*text, *text.values()]
    if isinstance(text, list):
        for part in text:
            validate_text(part, what)
    if not isinstance(text, str):
        return
    if "\x00" in text:
        raise InvalidRequest(
            f"There is a NUL character (U+0000) in {what}, at position {text.index(chr(0)) + 1}.",
            "Remove it: no database text can hold it.",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"There is a byte that is not UTF-8 text in {what}, at position {error.start + 1}.",
            "Convert it to UTF-8 first.",
        ) from None


def validate_tag(text: str) -> None:
    """Refuse what is no tag, at every door where one is given; a record that has it keeps it.

    Raises:
        InvalidRequest: It is blank, begins with a space, or cannot be stored.
    """
    if re.match(TAG_PATTERN, text) is None:
        raise InvalidRequest(
            f"{text!r} is no tag: it begins with nothing that can be seen.",
            "Begin it with a letter, say.",
        )
    validate_text(text, "a tag")


def sanitize_text(text: str) -> str:
    """An answer's text as any database can hold it: what it cannot hold becomes U+FFFD."""
    text = text.replace("\x00", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def parse_count(value: object) -> int | None:
    """A provider's count, where it is one that the database can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_ID:
        return None
    return int(value)
