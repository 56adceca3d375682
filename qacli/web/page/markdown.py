"""An answer as HTML that may stand in the page, whatever a model wrote.

No HTML of the answer's own gets through: the parser escapes it, and a sanitiser that knows only
what this module writes has the last word. Nothing is fetched for an answer either: its images
become links. What arrives bit by bit is rendered block by block, each once.
"""

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

LONGEST = 100_000
"""Characters; a longer answer is shown as it is written, since nobody reads it for its form."""

HEADING_ABOVE = 2
"""The level of the question's own heading, under which the answer's headings stand."""
LOWEST_HEADING = 6

SCHEMES = {"http", "https", "mailto"}
TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li"),
    *("em", "strong", "s", "code", "pre", "span", "div", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
SANITISER = nh3.Cleaner(
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


def render(text: str) -> Markup:
    """The whole answer."""
    if len(text) > LONGEST:
        return Markup('<div class="plain">{}</div>').format(text)
    outline: list[int] = []
    return Markup("").join(_html(block, outline) for block in _blocks(_parser().parse(text)))


class Arriving:
    """An answer while it arrives: what is settled is rendered once, the rest again and again.

    A block is settled when another has begun below it. That is right for all but a few (a link
    whose address comes at the end), and `render` has the last word on those.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._outline: list[int] = []
        self._length = 0

    def add(self, text: str) -> None:
        """Take what has arrived; nothing is rendered yet."""
        self._rest += text
        self._length += len(text)

    def render(self) -> tuple[Markup, Markup]:
        """What has become settled since the last time, and the block that still grows."""
        if self._length > LONGEST:
            text, self._rest = self._rest, ""
            return Markup('<div class="plain">{}</div>').format(text), Markup("")
        lines = self._rest.split("\n")
        blocks = list(_blocks(_parser().parse(self._rest)))
        starts = [block[0].map[0] if block[0].map else 0 for block in blocks]
        settled = next((n for n in reversed(range(len(blocks))) if _stands(lines, starts[n])), 0)
        done = Markup("").join(_html(block, self._outline) for block in blocks[:settled])
        outline = list(self._outline)
        growing = Markup("").join(_html(block, outline) for block in blocks[settled:])
        if settled:
            self._rest = "\n".join(lines[starts[settled] :])
        return done, growing


def _stands(lines: list[str], start: int) -> bool:
    """Whether a block that begins on a line will be one of its own, whatever comes next.

    Without an empty line above it, it may become a part of the block above: `*` is a list, and
    `*so*` is not. With one, that is so only for a number, which may be the next one of a list.
    """
    if start < len(lines) - 1:
        return True
    return start > 0 and not lines[start - 1].strip() and not lines[start].strip().isdigit()


def _blocks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The tokens of each block that stands in no other."""
    block: list[Token] = []
    depth = 0
    for token in tokens:
        block.append(token)
        depth += token.nesting
        if depth == 0:
            yield block
            block = []


def _html(block: list[Token], outline: list[int]) -> Markup:
    """A block, sanitised.

    Args:
        block: Its tokens.
        outline: The levels of the headings that it stands under; kept up to date.
    """
    for token in block:
        if token.type == "heading_open":
            _nest(token, outline)
        elif token.type == "heading_close":
            token.tag = _tag(outline)
    parser = _parser()
    return Markup(SANITISER.clean(parser.renderer.render(block, parser.options, {})))  # noqa: S704 - sanitised


def _nest(token: Token, outline: list[int]) -> None:
    """Put a heading one level below the one that it belongs under: none is left out."""
    level = int(token.tag[1:])
    while outline and outline[-1] >= level:
        outline.pop()
    outline.append(level)
    token.tag = _tag(outline)


def _tag(outline: list[int]) -> str:
    return f"h{min(HEADING_ABOVE + len(outline), LOWEST_HEADING)}"


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": True})
    parser.enable(["table", "strikethrough", "linkify"])
    if parser.linkify is not None:
        # Only what says that it is an address: `README.md` is none.
        parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    parser.add_render_rule("image", _image)
    parser.add_render_rule("fence", _code)
    parser.add_render_rule("code_block", _code)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", _table_close)
    parser.add_render_rule("th_open", _cell)
    parser.add_render_rule("td_open", _cell)
    return parser


def _image(_self: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:  # noqa: ANN401 - what the parser passes
    """A link: to fetch an image would tell its server who reads the answer, and when."""
    source = str(tokens[at].attrGet("src") or "")
    name = tokens[at].content or source
    return f'<a href="{escape(source)}">{escape(name)}</a>'


def _code(_self: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:  # noqa: ANN401
    language = tokens[at].info.strip().partition(" ")[0]
    label = f"Code, {language}" if language else "Code"
    # It scrolls sideways, so the keyboard must reach it.
    return (
        f'<pre role="group" tabindex="0" aria-label="{escape(label)}"><code>'
        f"{_highlighted(tokens[at].content, language)}</code></pre>\n"
    )


def _table_open(*_: Any) -> str:  # noqa: ANN401
    return '<div class="wide" role="group" tabindex="0" aria-label="Table"><table>'


def _table_close(*_: Any) -> str:  # noqa: ANN401
    return "</table></div>\n"


def _cell(_self: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:  # noqa: ANN401
    """A cell: how it is aligned is a class, since no style of an answer's own is allowed."""
    style = str(tokens[at].attrGet("style") or "")
    align = style.removeprefix("text-align:")
    return f'<{tokens[at].tag} class="{align}">' if style else f"<{tokens[at].tag}>"


@lru_cache(maxsize=256)
def _highlighted(code: str, language: str) -> str:
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))
