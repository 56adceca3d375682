"""Markdown of an answer as HTML that may stand in the page, whatever a model wrote.

No HTML of the answer's own gets through: the parser escapes it, and a sanitizer that knows only
what this module writes has the last word. Nothing is fetched for an answer either: its images
become links.

The processor time for an answer is limited (see `limits`). What is too costly or nested too deeply
is shown as it was written, as plain text; nothing is left out.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import table as stock_table
from markdown_it.rules_core import StateCore, inline, text_join
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup

from qacli.web.ui.highlighting import highlight
from qacli.web.ui.limits import CpuBudget, LimitExceeded
from qacli.web.ui.links import LONGEST_LINK, link_rule

LONGEST = 100_000
"""Characters. A longer answer is shown as plain text."""

LONGEST_PARAGRAPH = 10_000
"""Characters of a paragraph, a heading or a cell: some steps of the parser read all of it."""

LONGEST_HTML = 400_000
"""Characters of HTML for one block: the sanitizer cannot be stopped in the middle of it."""

LONGEST_ATTRIBUTES = 100_000
"""Characters of addresses and titles in one block: a long one can be referred to many times."""

MOST_CELLS = 1_500
"""Of a table: the parser fills up each row to the width of the first, all in one step."""

DEEPEST = 38
"""Levels of blocks; a quote is one, a list with its item two."""

ANSWER_SECONDS = 0.08
"""Processor time for one answer."""

BLOCKS_SECONDS = 0.04
"""Of that, for finding the blocks; the rest is for what is in them."""

HEADING_ABOVE = 2
"""The level of the question's own heading, under which the answer's headings stand."""
LOWEST_HEADING = 6

REGROWN = 16
"""A long block that still grows is rendered again once it has grown by one part in so many."""
SHORT = 2_000
"""Characters; less than this is always rendered again."""

SCHEMES = {"http", "https", "mailto"}
TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li"),
    *("em", "strong", "s", "code", "pre", "span", "div", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
SANITIZER = nh3.Cleaner(
    tags=TAGS,
    attributes={
        "a": {"href", "title"},
        "ol": {"start"},
        "pre": {"role", "tabindex", "aria-label"},
        "div": {"role", "tabindex", "aria-label"},
        "span": {"class"},
        "th": {"class"},
        "td": {"class"},
    },
    allowed_classes={"div": {"wide"}},
    url_schemes=SCHEMES,
    url_relative="deny",
    link_rel="noopener nofollow noreferrer",
)


def render(text: str, budget: CpuBudget | None = None) -> Markup:
    """Return the whole answer as HTML.

    Args:
        text: The answer.
        budget: The processor time for it; by default `ANSWER_SECONDS`.
    """
    if len(text) > LONGEST:
        return plain(text)
    budget = budget or CpuBudget(ANSWER_SECONDS)
    document = _Document.parse(_normalized(text), budget)
    return Markup("").join(document.all_html(0, []))


class StreamingMarkdown:
    """An answer while it arrives: settled blocks are rendered once, the last one again as it grows.

    A block is settled when another has begun below it. That is right for all but a few (a link
    whose address comes at the end), and `render` has the last word on those. A block is rendered
    again only after it has grown by a fixed share, so the work is linear in the answer's length.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._rest = ""
        self._outline: list[int] = []
        self._length = 0
        self._rendered = 0
        self._growing = Markup("")

    def add(self, text: str) -> None:
        """Take what has arrived; nothing is rendered yet."""
        self._pieces.append(text)
        self._length += len(text)

    def render(self) -> tuple[Markup, Markup]:
        """Return the HTML that has settled since the last call, and the block that still grows."""
        if self._length > LONGEST:
            text, self._rest, self._pieces = self._rest + "".join(self._pieces), "", []
            return plain(text), Markup("")
        waiting = self._length - self._rendered
        if waiting * REGROWN < len(self._rest) and len(self._rest) > SHORT:
            return Markup(""), self._growing
        self._rendered = self._length
        self._rest += "".join(self._pieces)
        self._pieces = []
        if self._rest.endswith("\r"):
            # It may be the first half of a line's end.
            self._pieces = ["\r"]
        source = _normalized(self._rest.removesuffix("\r"))
        document = _Document.parse(source, CpuBudget(ANSWER_SECONDS))
        starts = document.starts[:-1]
        newest = reversed(range(len(starts)))
        settled = next((n for n in newest if _stands(document.lines, starts[n])), 0)
        done = Markup("").join(document.html(n, self._outline) for n in range(settled))
        outline = list(self._outline)
        self._growing = Markup("").join(document.all_html(settled, outline))
        self._rest = "\n".join(document.lines[starts[settled] :]) if settled else source
        return done, self._growing


def _stands(lines: list[str], start: int) -> bool:
    """Return whether a block that begins on a line will be a block of its own.

    Without an empty line above it, it may become a part of the block above: `*` is a list, and
    `*so*` is not. With one, that is so only for a number, which may be the next one of a list.
    """
    if start < len(lines) - 1:
        return True
    return start > 0 and not lines[start - 1].strip() and not lines[start].strip().isdigit()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A Markdown text, split into the blocks that stand in no other.

    Attributes:
        lines: The text.
        blocks: The tokens of each block.
        starts: The line on which each begins, and the one on which the last ends.
        budget: The processor time for rendering them.
        environment: What the rules of the parser share.
    """

    lines: list[str]
    blocks: list[list[Token]]
    starts: list[int]
    budget: CpuBudget
    environment: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, source: str, budget: CpuBudget) -> "_Document":
        """Find the blocks; where that takes too long, those that were found in time."""
        lines = source.split("\n")
        tokens: list[Token] = []
        environment: dict[str, Any] = {"budget": budget.at_most(BLOCKS_SECONDS)}
        end = len(lines)
        try:
            _parser().block.parse(source, _parser(), environment, tokens)
            blocks = list(_blocks(tokens))
        except LimitExceeded:
            blocks = list(_blocks(tokens))
            end = (blocks[-1][0].map or [0, 0])[1] if blocks else 0
        environment["budget"] = budget
        starts = [block[0].map[0] if block[0].map else 0 for block in blocks]
        return cls(
            lines=lines,
            blocks=blocks,
            starts=[*starts, end],
            budget=budget,
            environment=environment,
        )

    def html(self, number: int, outline: list[int]) -> Markup:
        """Return a block as HTML; as plain text where a limit is exceeded.

        Args:
            number: The block.
            outline: The levels of the headings that it stands under; kept up to date.
        """
        with suppress(LimitExceeded):
            return self._formatted(self.blocks[number], outline)
        return self._as_written(self.starts[number], self.starts[number + 1])

    def all_html(self, first: int, outline: list[int]) -> Iterator[Markup]:
        """Yield the blocks from one on as HTML, then what there was no time for as plain text."""
        for number in range(first, len(self.blocks)):
            if self.budget.remaining < 0:
                yield self._as_written(self.starts[number], len(self.lines))
                return
            yield self.html(number, outline)
        yield self._as_written(self.starts[-1], len(self.lines))

    def _as_written(self, start: int, end: int) -> Markup:
        text = "\n".join(self.lines[start:end])
        return plain(text.rstrip()) if text.strip() else Markup("")

    def _formatted(self, block: list[Token], outline: list[int]) -> Markup:
        parser = _parser()
        for token in block:
            if token.type == "inline" and len(token.content) > LONGEST_PARAGRAPH:
                raise LimitExceeded
        state = StateCore("", parser, self.environment, block)
        inline(state)
        text_join(state)
        if _attributes(block) > LONGEST_ATTRIBUTES:
            raise LimitExceeded
        below = list(outline)
        for token in block:
            if token.type == "heading_open":
                _nest(token, below)
            elif token.type == "heading_close":
                token.tag = _tag(below)
        html = parser.renderer.render(block, parser.options, self.environment)
        if len(html) > LONGEST_HTML:
            raise LimitExceeded
        self.budget.check()
        outline[:] = below
        return Markup(SANITIZER.clean(html))  # noqa: S704 - sanitized


def _normalized(text: str) -> str:
    """Return the text as the parser wants it: lines end with a newline, and no NUL is in them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def plain(text: str) -> Markup:
    """Return a text as it was written."""
    return Markup('<div class="plain">{}</div>').format(text)


def _blocks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the tokens of each block that stands in no other, and is complete."""
    block: list[Token] = []
    depth = 0
    for token in tokens:
        block.append(token)
        depth += token.nesting
        if depth == 0:
            yield block
            block = []


def _attributes(block: list[Token]) -> int:
    """Return the length of all addresses and titles in a block."""
    return sum(
        len(str(value))
        for token in block
        for child in token.children or ()
        for value in child.attrs.values()
    )


def _nest(token: Token, outline: list[int]) -> None:
    """Put a heading one level below the one that it belongs under: no level is skipped."""
    level = int(token.tag[1:])
    while outline and outline[-1] >= level:
        outline.pop()
    outline.append(level)
    token.tag = _tag(outline)


def _tag(outline: list[int]) -> str:
    return f"h{min(HEADING_ABOVE + len(outline), LOWEST_HEADING)}"


class _Parser(MarkdownIt):
    """The parser, with links of limited length, and addresses shown as they were written."""

    def validateLink(self, url: str) -> bool:  # noqa: N802 - markdown-it's name
        """Return whether an address may be a link."""
        return len(url) <= LONGEST_LINK and super().validateLink(url)

    def normalizeLink(self, url: str) -> str:  # noqa: N802
        """Return the address with what needs it percent-encoded; a long one is refused later."""
        return super().normalizeLink(url) if len(url) <= LONGEST_LINK else url

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802
        """Return the address to show."""
        return link


@cache
def _parser() -> MarkdownIt:
    parser = _Parser("commonmark", {"html": False, "maxNesting": DEEPEST + 2})
    parser.enable(["table", "strikethrough"])
    containers = ["paragraph", "reference", "blockquote", "list"]
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.before("table", "limit", _limit_block, {"alt": containers})
    parser.inline.ruler.before("text", "limit", _limit_inline)
    parser.inline.ruler.after("text", "address", link_rule)
    parser.add_render_rule("image", _image)
    parser.add_render_rule("fence", _code)
    parser.add_render_rule("code_block", _code)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", _table_close)
    parser.add_render_rule("th_open", _cell)
    parser.add_render_rule("td_open", _cell)
    return parser


def _limit_block(state: StateBlock, *_: Any) -> bool:  # noqa: ANN401
    """Count a step of the block parser; what it does not read because it is too deep is not lost.

    Raises:
        LimitExceeded: The time is over, or the block is nested too deeply.
    """
    if state.level >= DEEPEST:
        raise LimitExceeded
    state.env["budget"].step()
    return False


def _limit_inline(state: StateInline, _: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Count a step of the inline parser."""
    state.env["budget"].step()
    return False


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Read a table. One that would have too many cells becomes a block of code: as written."""
    if not stock_table(state, start, end, silent=True):
        return False
    if silent:
        return True
    columns = state.src.count("|", state.bMarks[start + 1], state.eMarks[start + 1]) + 1
    below = start
    while below < end and not state.isEmpty(below) and state.sCount[below] >= state.blkIndent:
        below += 1
    if columns * (below - start) <= MOST_CELLS:
        return stock_table(state, start, end, silent=False)
    token = state.push("code_block", "code", 0)
    token.content = state.getLines(start, below, state.blkIndent, keepLastLF=True)
    token.map = [start, below]
    state.line = below
    return True


def _image(_self: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:  # noqa: ANN401 - what the parser passes
    """Render a link: to fetch an image would show its server when, and where, an answer is read."""
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
    # It scrolls sideways, so the keyboard must reach it.
    return (
        f'<pre role="group" tabindex="0" aria-label="{escape(label)}"><code>{code}</code></pre>\n'
    )


def _table_open(*_: Any) -> str:  # noqa: ANN401
    return '<div class="wide" role="group" tabindex="0" aria-label="Table"><table>'


def _table_close(*_: Any) -> str:  # noqa: ANN401
    return "</table></div>\n"


def _cell(_self: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:  # noqa: ANN401
    """Render a cell: how it is aligned is a class, since no style of an answer's own is allowed."""
    style = str(tokens[at].attrGet("style") or "")
    align = style.removeprefix("text-align:")
    return f'<{tokens[at].tag} class="{align}">' if style else f"<{tokens[at].tag}>"
