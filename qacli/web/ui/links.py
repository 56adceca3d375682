"""Links for bare addresses in the text of an answer, such as https://example.com/a.

The rule of GFM's extended autolinks (https://github.github.com/gfm/#autolinks-extension-) for
addresses with a scheme; names without one, such as `README.md`, stay text. linkify-it, which
markdown-it comes with, takes quadratic time for `http://a.http://a.`; here each address is
matched once, by a pattern of limited length.
"""

import re

from markdown_it.rules_inline import StateInline

MAX_LINK_CHARACTERS = 2_000
"""Browsers and servers accept about as much. A longer address is shown as text."""

SCHEMES = ("http", "https", "mailto")

NO_PART = r"\s<>\[\]\"`\\^{|}\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Characters that end an address: RFC 3986 excludes them, or they change the direction of text."""
NO_PART_CJK = "\u3001\u3002\uff0c\uff01\uff1f\uff1a\uff1b\uff08\uff09\u300c\u300d\u3010\u3011"
NO_PART_QUOTES = "\u2018\u2019\u201c\u201d\u00ab\u00bb"

ADDRESS = re.compile(
    rf"(?:https?://[^\W_]|mailto:[^\W_])[^{NO_PART}{NO_PART_CJK}{NO_PART_QUOTES}]{{0,{MAX_LINK_CHARACTERS}}}",
    re.IGNORECASE,
)
TRAILING = "?!.,:;*_~'"
"""Punctuation that belongs to the sentence, not to the address before it."""


def link_rule(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Make a link of an address (an inline rule of markdown-it, called at each position).

    Args:
        state: The state of the parser. At a colon, the text before it has been read.
        silent: Only move the position, without making tokens.

    Returns:
        True if there was an address.
    """
    if state.src[state.pos] != ":" or state.linkLevel > 0:
        return False
    scheme = _scheme_before(state)
    if scheme is None:
        return False
    start = state.pos - len(scheme)
    match = ADDRESS.match(state.src, start, state.posMax)
    if match is None:
        return False
    address = _without_trailing(match[0])
    if len(address) > MAX_LINK_CHARACTERS or len(address) <= len(scheme) + 1:
        return False
    href = state.md.normalizeLink(address)
    if not state.md.validateLink(href):
        return False
    if not silent:
        state.pending = state.pending[: -len(scheme)]
        token = state.push("link_open", "a", 1)
        token.attrs = {"href": href}
        state.push("text", "", 0).content = address
        state.push("link_close", "a", -1)
    state.pos = start + len(address)
    return True


def _scheme_before(state: StateInline) -> str | None:
    """Return the scheme that ends at this position, unless it is a part of a longer word."""
    pending = state.pending[-len("mailto") - 1 :].lower()
    for scheme in SCHEMES:
        if pending.endswith(scheme):
            before = pending[: -len(scheme)][-1:]
            return None if before.isalnum() or before in {"+", "-", "."} else scheme
    return None


def _without_trailing(address: str) -> str:
    """Return an address without the sentence's punctuation and closing brackets at its end."""
    unopened = address.count(")") - address.count("(")
    while True:
        stripped = address.rstrip(TRAILING)
        if unopened > 0 and stripped.endswith(")"):
            stripped = stripped[:-1]
            unopened -= 1
        if stripped == address:
            return address
        address = stripped
