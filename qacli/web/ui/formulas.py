r"""Formulas in an answer: `\(...\)`, `\[...\]` and `$$...$$` become MathML, which browsers show.

A single dollar sign stays text: it is money more often than a formula.
"""

from html import escape, unescape
from typing import Any
from xml.etree.ElementTree import tostring

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

MAX_FORMULA_CHARACTERS = 2_000
"""A longer formula is shown as its source."""

MAX_FORMULA_LINES = 60

CLOSING = {r"\(": r"\)", r"\[": r"\]", "$$": "$$"}

TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts"),
    *("mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "none"),
}
"""The elements of MathML Core that formulas use."""

ATTRIBUTES = {
    "math": {"display"},
    "mi": {"mathvariant"},
    "mo": {"stretchy", "fence", "form", "largeop", "lspace", "rspace", "minsize", "maxsize"},
    "mspace": {"width"},
    "mfrac": {"linethickness"},
    "mover": {"accent"},
    "munder": {"accentunder"},
    "mstyle": {"displaystyle", "scriptlevel"},
}


def add_formulas(markdown: MarkdownIt) -> None:
    """Add the rules for formulas to a parser."""
    containers = ["paragraph", "reference", "blockquote", "list"]
    markdown.block.ruler.before("fence", "formula", _block, {"alt": containers})
    markdown.inline.ruler.before("escape", "formula", _inline)
    markdown.add_render_rule("formula", _render)


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    r"""Parse a formula that has its lines to itself, from `$$` or `\[` to the closing one."""
    first = state.bMarks[start] + state.tShift[start]
    opening = state.src[first : first + 2]
    if opening not in {r"\[", "$$"} or state.is_code_block(start):
        return False
    last = min(end, start + MAX_FORMULA_LINES)
    for line in range(start, last):
        state.env["budget"].step()
        if line > start and state.sCount[line] < state.blkIndent:
            return False
        text = state.getLines(start, line + 1, state.blkIndent, keepLastLF=False).strip()[2:]
        if text.rstrip().endswith(CLOSING[opening]):
            break
    else:
        return False
    content = text.rstrip().removesuffix(CLOSING[opening])
    if CLOSING[opening] in content:
        return False  # several formulas in one line of text
    if not silent:
        _push(state, opening, content.strip(), "block").map = [start, line + 1]
        state.line = line + 1
    return True


def _inline(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    """Parse a formula within a line of text."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in CLOSING:
        return False
    start = state.pos + 2
    limit = min(state.posMax, start + MAX_FORMULA_CHARACTERS)
    close = state.src.find(CLOSING[opening], start, limit)
    content = state.src[start : max(close, start)]
    if not content.strip() or (opening == "$$" and content != content.strip()):
        return False
    if not silent:
        _push(state, opening, content, "inline")
    state.pos = close + 2
    return True


def _push(state: StateBlock | StateInline, opening: str, content: str, display: str) -> Token:
    token = state.push("formula", "math", 0)
    token.content, token.markup, token.info = content, opening, display
    return token


def _render(
    _self: RendererHTML,
    tokens: list[Token],
    at: int,
    _options: Any,  # noqa: ANN401 - what the parser passes
    environment: Any,  # noqa: ANN401
) -> str:
    from latex2mathml.converter import convert_to_element

    token = tokens[at]
    environment["budget"].check()
    source = f"{token.markup}{token.content}{CLOSING[token.markup]}"
    display = "inline" if token.markup == r"\(" else "block"
    try:
        if len(token.content) > MAX_FORMULA_CHARACTERS:
            raise ValueError("too long")  # noqa: TRY301 - shown as its source, as below
        element = convert_to_element(token.content, display=display)
    except Exception:  # noqa: BLE001 - the library raises errors of many classes
        return f"<code>{escape(source)}</code>"
    for node in element.iter():
        # The library writes characters as entities, and the text of `\text` as it is.
        node.text = unescape(node.text or "")
    html = tostring(element, encoding="unicode")
    if token.info == "inline":
        return html
    return f'<div class="wide" role="group" tabindex="0" aria-label="Formula">{html}</div>\n'
