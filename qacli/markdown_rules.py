r"""Rules for the Markdown of models, which both parsers of answers add to CommonMark.

Models write names, products, patterns and paths outside of code: `__init__`, `a*b*c`, `*.py`,
`\\server\share`. By CommonMark their marks would be emphasis or escapes, and vanish.
"""

import re
from typing import TYPE_CHECKING

from markdown_it.rules_inline.state_inline import Delimiter

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline

DUNDER_NAME = re.compile(r"__[a-z][a-z0-9]*(?:_[a-z0-9]+)*__(?![A-Za-z0-9_])")
STARS = re.compile(r"\*+")
WORD_CHARACTER = re.compile(r"[A-Za-z0-9]")
GLOB = re.compile(r"(?:^|(?<=[\s/(\"'`,]))\*+(?=[./][\w*])")
KEPT_ESCAPE = re.compile(r"""\\[\\/:;,=?"'{}]""")
"""A backslash before a character that has no meaning in Markdown, so it is no escape."""


def add_rules(markdown: "MarkdownIt") -> None:
    """Add the rules to a parser, after its rules for formulas."""
    markdown.inline.ruler.before("escape", "kept_backslash", _kept_backslash)
    markdown.inline.ruler.before("emphasis", "plain_marks", _plain_marks)


def _kept_backslash(state: "StateInline", silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Read a backslash that escapes nothing as text, with the character after it."""
    match = KEPT_ESCAPE.match(state.src, state.pos, state.posMax)
    return _text(state, match, silent=silent)


def _plain_marks(state: "StateInline", silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Read the marks of names and patterns as text; stars inside of a word open no emphasis."""
    start = state.pos
    before = state.src[start - 1 : start]
    if state.src[start] == "_" and not WORD_CHARACTER.match(before):
        return _text(state, DUNDER_NAME.match(state.src, start, state.posMax), silent=silent)
    if state.src[start] != "*":
        return False
    if match := GLOB.match(state.src, start, state.posMax):
        return _text(state, match, silent=silent)
    match = STARS.match(state.src, start, state.posMax)
    after = state.src[match.end() : match.end() + 1] if match else ""
    if silent or not (match and WORD_CHARACTER.match(before) and WORD_CHARACTER.match(after)):
        return False
    for _ in range(len(match[0])):
        state.push("text", "", 0).content = "*"
        token = len(state.tokens) - 1
        state.delimiters.append(
            Delimiter(ord("*"), len(match[0]), token, end=-1, open=False, close=True)
        )
    state.pos = match.end()
    return True


def _text(state: "StateInline", match: "re.Match[str] | None", *, silent: bool) -> bool:
    if match is None:
        return False
    if not silent:
        state.push("text", "", 0).content = match[0]
    state.pos = match.end()
    return True
