"""The Markdown parser of the page: CommonMark with tables, strikethrough and bare addresses.

Each step of its rules counts against the budget in the environment (`limits.CpuBudget`).
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import table as stock_table
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from qacli.markdown_rules import add_rules
from qacli.web.ui.formulas import add_formulas
from qacli.web.ui.highlighting import highlight
from qacli.web.ui.limits import LimitExceeded
from qacli.web.ui.links import MAX_LINK_CHARACTERS, link_rule

MAX_CELLS = 1_500
"""Maximum cells of a table: the parser fills each row to the width of the first in one step."""

LINE_BREAK = re.compile(r"<br */?>", re.IGNORECASE)

BOXES = {"[ ] ": "\u2610 ", "[x] ": "\u2611 "}
"""The boxes of task lists, by their Markdown."""

DIRECTED = frozenset({"bullet_list_open", "ordered_list_open", "blockquote_open", "table_open"})
"""The blocks whose parts are placed by their direction."""

MAX_DEPTH = 38
"""Levels of blocks; a quote is one, a list with its item two."""


class _MarkdownIt(MarkdownIt):
    """A parser with links of limited length, and addresses shown as they were written."""

    def validateLink(self, url: str) -> bool:  # noqa: N802 - markdown-it's name
        """Return whether an address may be a link."""
        return len(url) <= MAX_LINK_CHARACTERS and super().validateLink(url)

    def normalizeLink(self, url: str) -> str:  # noqa: N802
        """Return the address percent-encoded; one that is too long for a link is unchanged."""
        return super().normalizeLink(url) if len(url) <= MAX_LINK_CHARACTERS else url

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802
        """Return the text shown for an address: itself."""
        return link


@cache
def parser() -> MarkdownIt:
    """Return the parser; it is made once."""
    markdown = _MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_DEPTH + 2})
    markdown.enable(["table", "strikethrough"])
    containers = ["paragraph", "reference", "blockquote", "list"]
    markdown.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    markdown.block.ruler.before("table", "limit", _limit_block, {"alt": containers})
    markdown.inline.ruler.before("text", "limit", _limit_inline)
    markdown.inline.ruler.after("text", "address", link_rule)
    markdown.inline.ruler.before("autolink", "line_break", _line_break)
    add_formulas(markdown)
    add_rules(markdown)
    markdown.add_render_rule("image", _image)
    markdown.add_render_rule("fence", _code)
    markdown.add_render_rule("code_block", _code)
    markdown.add_render_rule("table_open", _table_open)
    markdown.add_render_rule("table_close", _table_close)
    markdown.add_render_rule("th_open", _cell)
    markdown.add_render_rule("td_open", _cell)
    return markdown


def _limit_block(state: StateBlock, *_: Any) -> bool:  # noqa: ANN401
    """Count a step of the block parser.

    Raises:
        LimitExceeded: The time is over, or the block is nested too deeply.
    """
    if state.level >= MAX_DEPTH:
        raise LimitExceeded
    state.env["budget"].step()
    return False


def _limit_inline(state: StateInline, _: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Count a step of the inline parser."""
    state.env["budget"].step()
    return False


def _line_break(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Parse `<br>`, the only element of HTML that is one here: a cell has no other line break."""
    match = LINE_BREAK.match(state.src, state.pos)
    if match is None:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = match.end()
    return True


def mark_tasks(block: Sequence[Token]) -> None:
    """Replace the `[ ]` or `[x]` at the start of list items by a box."""
    for item, paragraph, text in zip(block, block[1:], block[2:], strict=False):
        if (item.type, paragraph.type, text.type) != (
            "list_item_open",
            "paragraph_open",
            "inline",
        ):
            continue
        first = text.children[0] if text.children else None
        if first is not None and (box := BOXES.get(first.content[:4].lower())):
            first.content = box + first.content[4:]
            item.attrSet("class", "task")


def mark_direction(block: Sequence[Token]) -> None:
    """Set the direction of a list, a quote or a table whose first letter is written right to left.

    It places numbers, bars and columns. The style sheet gives each paragraph its own direction.
    """
    if block[0].type in DIRECTED and is_right_to_left(
        character for token in block if token.type == "inline" for character in token.content
    ):
        block[0].attrSet("dir", "rtl")


def is_right_to_left(text: Iterable[str]) -> bool:
    """Return whether the first letter with a direction goes right to left (UAX #9, rule P2)."""
    classes = map(unicodedata.bidirectional, text)
    return next((name for name in classes if name in {"L", "R", "AL"}), "L") != "L"


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Parse a table; one with too many cells becomes a block of code with its source."""
    if not stock_table(state, start, end, silent=True):
        return False
    if silent:
        return True
    columns = state.src.count("|", state.bMarks[start + 1], state.eMarks[start + 1]) + 1
    below = start
    while below < end and not state.isEmpty(below) and state.sCount[below] >= state.blkIndent:
        below += 1
    if columns * (below - start) <= MAX_CELLS:
        return stock_table(state, start, end, silent=False)
    token = state.push("code_block", "code", 0)
    token.content = state.getLines(start, below, state.blkIndent, keepLastLF=True)
    token.map = [start, below]
    state.line = below
    return True


def _image(_self: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:  # noqa: ANN401 - what the parser passes
    """Render an image as a link: fetching it would tell its server when an answer is read."""
    source = str(tokens[at].attrGet("src") or "")
    name = tokens[at].content or source
    return f'<a href="{escape(source)}">{escape(name)}</a>'


def _code(
    _self: RendererHTML,
    tokens: Sequence[Token],
    at: int,
    _options: Any,  # noqa: ANN401
    environment: Any,  # noqa: ANN401
) -> str:
    language = tokens[at].info.strip().partition(" ")[0]
    label = f"Code, {language}" if language else "Code"
    code = highlight(tokens[at].content, language, environment["budget"])
    # It scrolls sideways, so it must be reachable with the keyboard.
    return (
        f'<pre role="group" tabindex="0" aria-label="{escape(label)}"><code>{code}</code></pre>\n'
    )


def _table_open(_self: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:  # noqa: ANN401
    direction = ' dir="rtl"' if tokens[at].attrGet("dir") else ""
    return f'<div class="wide" role="group" tabindex="0" aria-label="Table"{direction}><table>'


def _table_close(*_: Any) -> str:  # noqa: ANN401
    return "</table></div>\n"


def _cell(_self: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:  # noqa: ANN401
    """Render a cell with its alignment as a class: style attributes are not allowed."""
    style = str(tokens[at].attrGet("style") or "")
    align = style.removeprefix("text-align:")
    return f'<{tokens[at].tag} class="{align}">' if style else f"<{tokens[at].tag}>"
