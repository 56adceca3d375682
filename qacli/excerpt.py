"""Excerpts of a text around the words of a search, for lists on the terminal and on the page."""

from collections.abc import Sequence

MAX_SEARCHED_CHARACTERS = 20_000
"""Characters of a text in which words are looked for, so that a list of long texts is quick."""

ELLIPSIS = "\u2026"


def find_first(text: str, words: Sequence[str]) -> int | None:
    """Return the index of the first occurrence of any word; None if there is none.

    Case does not matter. The time is linear in the text for each word.
    """
    lowered = text[:MAX_SEARCHED_CHARACTERS].lower()
    positions = (lowered.find(word.lower()) for word in words)
    return min((position for position in positions if position >= 0), default=None)


def from_position(text: str, position: int, before: int) -> str:
    """Return the text from the first word within `before` characters before a position on."""
    start = max(position - before, 0)
    if start == 0:
        return text
    return ELLIPSIS + text[text.find(" ", start, position) + 1 or start :]
