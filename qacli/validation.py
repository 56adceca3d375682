"""Checks of texts, tags and numbers from users, clients and providers."""

import re

from qacli.errors import InvalidRequest

MAX_TITLE_CHARACTERS = 200
MAX_ID = 2**63 - 1
"""The largest id that either database can hold."""


TAG_PATTERN = r"^[^\s\x00-\x1f\x7f-\x9f\ufeff]"
"""The first character of a tag: not white space and not a control character.

The characters are spelled out because `\\s` differs between Python, Rust and JavaScript.
"""


def is_number_between(value: object, minimum: float, maximum: float) -> bool:
    """Return whether a JSON value is a number in the closed range; a boolean is not a number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and minimum <= value <= maximum  # type: ignore[operator]


def validate_text(text: object, name: str) -> None:
    """Check that every string in the value can be stored in PostgreSQL.

    Args:
        text: A string, or any JSON value that contains strings.
        name: The value's name in the error, such as "the question".

    Raises:
        InvalidRequest: A string contains U+0000 or a surrogate, which UTF-8 cannot encode.
    """
    if isinstance(text, dict):
        text = [*text, *text.values()]
    if isinstance(text, list):
        for part in text:
            validate_text(part, name)
    if not isinstance(text, str):
        return
    if "\x00" in text:
        raise InvalidRequest(
            f"There is a NUL character (U+0000) in {name}, at position {text.index(chr(0)) + 1}.",
            "Remove it: a database cannot store it.",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"There is a byte that is not UTF-8 text in {name}, at position {error.start + 1}.",
            "Convert it to UTF-8 first.",
        ) from None


def validate_tag(text: str) -> None:
    """Check a new tag; tags of existing records are not checked.

    Raises:
        InvalidRequest: The tag is empty, starts with white space or a control character, or cannot
            be stored.
    """
    if re.match(TAG_PATTERN, text) is None:
        raise InvalidRequest(
            f"Invalid tag {text!r}: it must start with a visible character.",
            "For example, start it with a letter.",
        )
    validate_text(text, "a tag")


def sanitize_text(text: str) -> str:
    """Replace U+0000 and unpaired surrogates, which PostgreSQL cannot store, with U+FFFD."""
    text = text.replace("\x00", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def parse_count(value: object) -> int | None:
    """Return a provider's count as an integer; None if it is not a number from 0 to `MAX_ID`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_ID:
        return None
    return int(value)


def parse_title(text: str) -> str | None:
    """Return the title of a record on one line; None for an empty text, which removes it.

    Raises:
        InvalidRequest: The title is too long, or no database can store it.
    """
    title = " ".join(text.split()) or None
    if title is not None and len(title) > MAX_TITLE_CHARACTERS:
        raise InvalidRequest(
            f"The title has {len(title)} characters, more than {MAX_TITLE_CHARACTERS}.",
            "Make it shorter.",
        )
    validate_text(title, "the title")
    return title
