"""Render the Markdown of an answer as safe HTML, in limited processor time.

HTML in the answer is escaped by the parser, and a sanitizer then allows only the elements that
this module writes. The browser fetches nothing for an answer: images become links.

Text that is too expensive to format or nested too deeply is shown as plain text; nothing is left
out. See `limits` for the processor time.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import nh3
from markdown_it.rules_core import StateCore, inline, text_join
from markdown_it.token import Token
from markupsafe import Markup

from qacli.markdown_tokens import split_elements
from qacli.web.ui import formulas
from qacli.web.ui.limits import CpuBudget, LimitExceeded
from qacli.web.ui.markdown_parser import mark_direction, mark_tasks, parser

MAX_CHARACTERS = 100_000
MAX_LINES = 8_000
"""An answer with more than either is shown as plain text."""

MAX_PARAGRAPH_CHARACTERS = 6_000
"""Maximum length of a paragraph, heading or cell: some parser steps read all of it at once."""

MAX_HTML_CHARACTERS = 150_000
"""Maximum characters of one block: the sanitizer takes 0.2 µs for each, and cannot be stopped."""

MAX_ATTRIBUTE_CHARACTERS = 50_000
"""Maximum characters of addresses and titles in one block: many links can share a definition."""

ANSWER_SECONDS = 0.08
"""Processor time for one answer."""

BLOCKS_SECONDS = 0.04
"""The part of that time for finding the blocks; the rest is for their content."""

QUESTION_LEVEL = 2
"""The level of the question's heading. Headings of the answer are below it."""
MAX_LEVEL = 6

RERENDER_DIVISOR = 16
"""An unfinished long block is rendered again when it has grown by one part in this many."""
MIN_LONG_CHARACTERS = 2_000
"""An unfinished block that is shorter is rendered again at each call."""

SCHEMES = {"http", "https", "mailto"}
TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li"),
    *("em", "strong", "s", "code", "pre", "span", "div", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
    *formulas.TAGS,
}
SANITIZER = nh3.Cleaner(
    tags=TAGS,
    attributes={
        "a": {"href", "title"},
        "ol": {"start", "dir"},
        "ul": {"dir"},
        "blockquote": {"dir"},
        "pre": {"role", "tabindex", "aria-label"},
        "div": {"role", "tabindex", "aria-label", "dir"},
        "span": {"class"},
        "th": {"class"},
        "td": {"class"},
        **formulas.ATTRIBUTES,
    },
    allowed_classes={"div": {"wide"}, "li": {"task"}},
    url_schemes=SCHEMES,
    url_relative="deny",
    link_rel="noopener nofollow noreferrer",
)


def render(text: str, budget: CpuBudget | None = None) -> Markup:
    """Return a complete answer as HTML.

    Args:
        text: The answer.
        budget: The processor time for it; by default `ANSWER_SECONDS`.
    """
    if is_too_long(text):
        return plain(text)
    budget = budget or CpuBudget(ANSWER_SECONDS)
    document = _Document.parse(_normalized(text), budget)
    return Markup("").join(document.all_html(0, []))


class StreamingMarkdown:
    """Render an answer while it arrives: each complete block once, the last one as it grows.

    A block is complete when another one has begun below it. The exceptions, such as a link whose
    address comes at the end, are right once `render` gets the complete answer. An unfinished block
    is rendered again only when it has grown by a fixed share, so the work is linear.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._rest = ""
        self._outline: list[int] = []
        self._length = 0
        self._rendered = 0
        self._growing = Markup("")

    def add(self, text: str) -> None:
        """Add text that has arrived; `render` renders it."""
        self._pieces.append(text)
        self._length += len(text)

    def render(self) -> tuple[Markup, Markup]:
        """Return the HTML of newly completed blocks, and of the unfinished block."""
        if self._length > MAX_CHARACTERS:
            return self._plain_rest()
        waiting = self._length - self._rendered
        if waiting * RERENDER_DIVISOR < len(self._rest) and len(self._rest) > MIN_LONG_CHARACTERS:
            return Markup(""), self._growing
        self._rendered = self._length
        self._rest += "".join(self._pieces)
        self._pieces = []
        if is_too_long(self._rest):
            return self._plain_rest()
        if self._rest.endswith("\r"):
            # It may be the first half of "\r\n".
            self._pieces = ["\r"]
        source = _normalized(self._rest.removesuffix("\r"))
        document = _Document.parse(source, CpuBudget(ANSWER_SECONDS))
        starts = document.starts[:-1]
        newest = reversed(range(len(starts)))
        complete = next((n for n in newest if _is_separate(document.lines, starts[n])), 0)
        done = Markup("").join(document.html(n, self._outline) for n in range(complete))
        outline = list(self._outline)
        self._growing = Markup("").join(document.all_html(complete, outline))
        self._rest = "\n".join(document.lines[starts[complete] :]) if complete else source
        return done, self._growing

    def _plain_rest(self) -> tuple[Markup, Markup]:
        text = self._rest + "".join(self._pieces)
        self._rest, self._pieces, self._growing = "", [], Markup("")
        return plain(text), Markup("")


def _is_separate(lines: list[str], start: int) -> bool:
    """Return whether more text cannot join the block at a line to the block above it.

    In the last line, `*` is a list and `*so*` continues the paragraph above. After an empty line,
    only a number can still change: it may become the next number of a list.
    """
    if start < len(lines) - 1:
        return True
    return start > 0 and not lines[start - 1].strip() and not lines[start].strip().isdigit()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A Markdown text, split into its outermost blocks.

    Attributes:
        lines: The text.
        blocks: The tokens of each block.
        starts: The number of the first line of each block, then the end of the last block.
        budget: The processor time for rendering them.
        environment: The values that the parser passes to its rules.
    """

    lines: list[str]
    blocks: list[Sequence[Token]]
    starts: list[int]
    budget: CpuBudget
    environment: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, source: str, budget: CpuBudget) -> "_Document":
        """Find the blocks; when the time is over, keep the blocks found so far."""
        lines = source.split("\n")
        tokens: list[Token] = []
        environment: dict[str, Any] = {"budget": budget.at_most(BLOCKS_SECONDS)}
        end = len(lines)
        try:
            parser().block.parse(source, parser(), environment, tokens)
            blocks = split_elements(tokens)
        except LimitExceeded:
            blocks = split_elements(tokens)
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
        """Return a block as HTML, or as plain text when a limit is exceeded.

        Args:
            number: The index of the block.
            outline: The levels of the headings above it; changed by the headings in it.
        """
        with suppress(LimitExceeded):
            return self._formatted(self.blocks[number], outline)
        return self._source(self.starts[number], self.starts[number + 1])

    def all_html(self, first: int, outline: list[int]) -> Iterator[Markup]:
        """Yield the blocks from `first` on as HTML; after the time is over, as plain text."""
        for number in range(first, len(self.blocks)):
            if self.budget.remaining < 0:
                yield self._source(self.starts[number], len(self.lines))
                return
            yield self.html(number, outline)
        yield self._source(self.starts[-1], len(self.lines))

    def _source(self, start: int, end: int) -> Markup:
        text = "\n".join(self.lines[start:end])
        return plain(text.rstrip()) if text.strip() else Markup("")

    def _formatted(self, block: Sequence[Token], outline: list[int]) -> Markup:
        for token in block:
            if token.type == "inline" and len(token.content) > MAX_PARAGRAPH_CHARACTERS:
                raise LimitExceeded
        state = StateCore("", parser(), self.environment, list(block))
        inline(state)
        text_join(state)
        mark_tasks(block)
        mark_direction(block)
        if _attribute_characters(block) > MAX_ATTRIBUTE_CHARACTERS:
            raise LimitExceeded
        levels = list(outline)
        for token in block:
            if token.type == "heading_open":
                _set_level(token, levels)
            elif token.type == "heading_close":
                token.tag = _tag(levels)
        html = parser().renderer.render(block, parser().options, self.environment)
        if len(html) > MAX_HTML_CHARACTERS:
            raise LimitExceeded
        self.budget.check()
        outline[:] = levels
        return Markup(SANITIZER.clean(html))  # noqa: S704 - sanitized


def _normalized(text: str) -> str:
    """Return the text with newlines as its only line ends, and without NUL."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def is_too_long(text: str) -> bool:
    """Return whether an answer is shown as plain text because of its length."""
    return len(text) > MAX_CHARACTERS or len(text.splitlines()) > MAX_LINES


def plain(text: str) -> Markup:
    """Return a text as HTML that shows it as it was written."""
    return Markup('<div class="plain">{}</div>').format(text)


def _attribute_characters(block: Sequence[Token]) -> int:
    """Return the total length of the addresses and titles in a block."""
    return sum(
        len(str(value))
        for token in block
        for child in token.children or ()
        for value in child.attrs.values()
    )


def _set_level(token: Token, outline: list[int]) -> None:
    """Place a heading one level below its parent heading, so that no level is skipped."""
    level = int(token.tag[1:])
    while outline and outline[-1] >= level:
        outline.pop()
    outline.append(level)
    token.tag = _tag(outline)


def _tag(outline: list[int]) -> str:
    return f"h{min(QUESTION_LEVEL + len(outline), MAX_LEVEL)}"
