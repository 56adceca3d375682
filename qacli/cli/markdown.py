"""Render the Markdown of an answer for a terminal, without losing any of its text.

The parser is CommonMark with tables and strikethrough, but HTML, formulas, footnotes and reference
definitions are text, as the model wrote them: a terminal has no other place for them. At the end
`_render_block` compares letters and digits with the source, and prints the source if one is
missing. Addresses of links and images are printed, since OSC 8 links are invisible in some
terminals.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from html.entities import html5
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from qacli.cli.code_highlighting import TAB_WIDTH, Highlighter
from qacli.markdown_rules import add_rules
from qacli.markdown_tokens import split_elements
from qacli.sanitize import sanitize

if TYPE_CHECKING:
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from rich.console import Console, ConsoleOptions

Line = list[Segment]

MIN_WIDTH = 8
"""Minimum cells for a text, at any depth."""

MAX_DEPTH = 60
"""Levels of nesting that are rendered; Python's stack allows a few hundred."""

OPENING_FENCE = re.compile(r"( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)")
ENTITY = re.compile(r"&(?:(#\d{1,7}|#[xX][0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));")
HTML_OR_DEFINITION_LINE = re.compile(r"^ {0,3}(?:<[A-Za-z/!?]|\[[^\]\n]+\]:)", re.MULTILINE)
"""Matches a line of HTML or a definition, in a paragraph whose line breaks are kept."""

FORMULA_ENDS = {"$$": "$$", r"\(": r"\)", r"\[": r"\]"}
MAX_FORMULA_CHARACTERS = 2_000
DOLLAR_FORMULA = re.compile(r"\$[^\s$](?:[^$\n]*[^\s$\\])?\$(?!\d)")
"""A formula between single dollar signs, which are more often prices."""

CONTAINERS = {"bullet_list_open", "ordered_list_open", "blockquote_open"}
MIN_NUMBER_WIDTH = 3
"""Cells for the number of a list item with its mark; each item has its own indent."""

EMPHASIS = {"em": "markdown.em", "strong": "markdown.strong", "s": "markdown.s"}


@cache
def parser() -> MarkdownIt:
    """Return the parser; every visible character becomes text or the text of an element."""
    markdown = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_DEPTH})
    # `text_join` would lose where entities begin and end.
    markdown.enable(["table", "strikethrough"]).disable(["reference", "text_join"])
    markdown.inline.ruler.before("escape", "formula", _formula)
    add_rules(markdown)
    # Addresses are printed as they were written, never followed.
    for name, function in {
        "validateLink": lambda _url: True,
        "normalizeLink": lambda url: url,
        "normalizeLinkText": lambda url: url,
    }.items():
        setattr(markdown, name, function)
    return markdown


def _formula(state: "StateInline", silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """Read a formula as text: its `*`, `_` and backslashes are no Markdown."""
    text, start = state.src, state.pos
    if closing := FORMULA_ENDS.get(text[start : start + 2]):
        end = text.find(closing, start + 2, min(state.posMax, start + MAX_FORMULA_CHARACTERS))
        end += len(closing)
    else:
        match = DOLLAR_FORMULA.match(text, start, state.posMax)
        end = match.end() if match else 0
    if end < start + 2:
        return False
    if not silent:
        state.push("text", "", 0).content = text[start:end]
    state.pos = end
    return True


def parse_blocks(text: str) -> "list[Sequence[Token]]":
    """Return the tokens of each outermost block of a text."""
    return split_elements(parser().parse(text))


class Renderer:
    """Renders Markdown as lines of segments.

    Args:
        console: Provides the width, the styles and the encoding.
        fold: Break long lines of code at the edge of the screen. If the terminal breaks them,
            a line can be copied as one.
    """

    def __init__(self, console: "Console", *, fold: bool) -> None:
        self._console = console
        self._fold = fold
        encoding = (console.encoding or "utf-8").lower()
        self._plain = not encoding.startswith("utf")
        self._source: list[str] = []

    def render(self, text: str) -> list[Line]:
        """Return the lines of a text, with one empty line between two blocks."""
        lines: list[Line] = []
        source = self._source = text.split("\n")
        for block in parse_blocks(text):
            if lines:
                lines.append([])
            start, end = block[0].map or (0, len(source))
            lines += self._render_block(block, "\n".join(source[start:end]))
        return lines

    def code_rule(self, info: str) -> list[Line]:
        """Return the rule above a block of code, or the one below it (without a language)."""
        bar = "-" if self._plain else "─"
        width = self._console.width
        title = " ".join(sanitize(info).split())
        dim = Style(dim=True)
        if not title:
            return [[Segment(bar * min(width, 40), dim)]]
        if len(title) > width - 8:
            return self._wrapped(Text(f"{bar * 2} {title}", dim), width)
        text = Text(f"{bar * 2} {title} ", dim)
        text.append(bar * max(min(width, 40) - text.cell_len, 2))
        return self._wrapped(text, width)

    def _render_block(self, block: Sequence["Token"], source: str) -> list[Line]:
        """Return the lines of a block, or its source if letters or digits would be missing."""
        lines = self._blocks(block, self._console.width, outer=True)
        # The cells of a row stand side by side, and are wrapped there.
        ordered = all(token.type != "table_open" for token in block)
        shown = "\n".join(plain_text(line) for line in lines)
        has_text = block[0].type not in CONTAINERS or any(map(str.isalnum, source))
        if has_text and shown.strip() and is_complete(source, shown, ordered=ordered):
            return lines
        return self._wrapped(Text(source), self._console.width)

    def _blocks(
        self, tokens: Sequence["Token"], width: int, *, outer: bool = False, in_item: bool = False
    ) -> list[Line]:
        lines: list[Line] = []
        for children in split_elements(tokens):
            if lines and (not in_item or is_separate(self._source, children[0])):
                lines.append([])
            lines += self._block(children, max(width, MIN_WIDTH), outer=outer)
        return lines

    def _block(self, tokens: Sequence["Token"], width: int, *, outer: bool) -> list[Line]:
        first, inner = tokens[0], tokens[1:-1]
        match first.type:
            case "fence" | "code_block":
                return self._code(first, width, outer=outer)
            case "table_open":
                return self._table(inner, width)
            case "blockquote_open":
                bar = Segment("| " if self._plain else "▌ ", self._style("markdown.block_quote"))
                return [[bar, *line] for line in self._blocks(inner, width - 2)]
            case "bullet_list_open" | "ordered_list_open":
                return self._list(inner, width)
            case "hr":
                text = Text(("-" if self._plain else "─") * width, self._style("markdown.hr"))
            case "heading_open":
                text = self._inline(inner[0], f"markdown.{first.tag}")
            case _:
                text = self._inline(inner[0])
        return self._wrapped(text, width)

    def _list(self, tokens: Sequence["Token"], width: int) -> list[Line]:
        lines: list[Line] = []
        for item in split_elements(tokens):
            if lines and is_separate(self._source, item[0]):
                lines.append([])
            number, mark = item[0].info, item[0].markup
            if number:
                label = f"{number}{mark}".rjust(MIN_NUMBER_WIDTH) + " "
            else:
                label = f" {mark if mark == '+' else '*' if self._plain else '•'} "
            style = self._style("markdown.item.number" if number else "markdown.item.bullet")
            inner = self._blocks(item[1:-1], width - len(label), in_item=True) or [[]]
            before = Segment(label, style)
            for line in inner:
                lines.append([before, *line] if line or before.text == label else [])
                before = Segment(" " * len(label))
        return lines

    def _code(self, token: "Token", width: int, *, outer: bool) -> list[Line]:
        code = token.content.removesuffix("\n").split("\n") if token.content else []
        lines = self.code_rule(token.info)
        for text in Highlighter(token.info).highlight(code):
            lines += self.code_line(text, width, outer=outer)
        return lines + self.code_rule("")

    def code_line(self, text: Text, width: int | None = None, *, outer: bool = True) -> list[Line]:
        """Return the lines on the screen for one line of code."""
        if outer and not self._fold:
            return [list(text.render(self._console))]
        return self._wrapped(text, width or self._console.width)

    def _table(self, tokens: Sequence["Token"], width: int) -> list[Line]:
        from rich import box
        from rich.table import Table

        table = Table(
            box=box.ASCII2 if self._plain else box.SIMPLE,
            pad_edge=False,
            show_edge=False,
            style="markdown.table.border",
        )
        rows: list[list[Text]] = []
        for token in tokens:
            if token.type == "tr_open":
                rows.append([])
            elif token.type in {"th_open", "td_open"}:
                align = str(token.attrs.get("style", "")).removeprefix("text-align:")
                justify: Any = align if align in {"left", "center", "right"} else "left"
            elif token.type == "inline":
                style = "markdown.table.header" if len(rows) == 1 else "none"
                cell = self._inline(token, style)
                cell.justify = justify
                rows[-1].append(cell)
        for cell in rows[0]:
            table.add_column(cell, overflow="fold", justify=cell.justify or "left")
        for row in rows[1:]:
            table.add_row(*row)
        return self._lines_of(table, width)

    def _inline(self, token: "Token", style: str = "none") -> Text:
        """Return the text of a paragraph, a heading or a cell."""
        text = Text(style=self._style(style))
        keeps_breaks = HTML_OR_DEFINITION_LINE.search(token.content) is not None
        self._append(token.children or (), text, "\n" if keeps_breaks else " ")
        return text

    def _append(self, tokens: Sequence["Token"], text: Text, softbreak: str) -> None:
        styles = [Style.null()]
        links: list[tuple[int, Token]] = []
        for token in tokens:
            if token.type == "link_open":
                links.append((len(text), token))
                styles.append(styles[-1] + self._style("markdown.link"))
            elif token.type == "link_close":
                styles.pop()
                start, opened = links.pop()
                self._append_address(text, text.plain[start:], opened, "href")
            elif token.type == "image":
                text.append("[image: ", styles[-1])
                start = len(text)
                self._append(token.children or (), text, softbreak)
                self._append_address(text, text.plain[start:], token, "src")
                text.append("]", styles[-1])
            elif token.type in {"softbreak", "hardbreak"}:
                text.append(softbreak if token.type == "softbreak" else "\n")
            elif token.type == "code_inline":
                text.append(sanitize(token.content), styles[-1] + self._style("markdown.code"))
            elif token.tag in EMPHASIS and token.nesting == 1:
                styles.append(styles[-1] + self._style(EMPHASIS[token.tag]))
            elif token.tag in EMPHASIS and token.nesting == -1:
                styles.pop()
            else:
                text.append(_content(token), styles[-1])

    def _append_address(self, text: Text, label: str, token: "Token", name: str) -> None:
        address, title = str(token.attrs.get(name, "")), token.attrs.get("title")
        rest = address if address.removeprefix("mailto:") != label else ""
        rest += f' "{title}"' if title else ""
        if rest:
            text.append(" (" if label else "(")
            text.append(sanitize(rest.strip()), self._style("markdown.link_url"))
            text.append(")")

    def _wrapped(self, text: Text, width: int) -> list[Line]:
        text.overflow = "fold"
        text.expand_tabs(TAB_WIDTH)
        return self._lines_of(text, width)

    def _lines_of(self, renderable: Any, width: int) -> list[Line]:  # noqa: ANN401 - rich's own
        options: ConsoleOptions = self._console.options.update(width=width, height=None)
        lines = self._console.render_lines(renderable, options, pad=False)
        return [_strip_end(line) for line in lines]

    def _style(self, name: str) -> Style:
        return self._console.get_style(name, default="none")


def is_separate(source: Sequence[str], token: "Token") -> bool:
    """Return whether an empty line is above the block or the list item that starts with a token.

    Args:
        source: The lines of the text that was parsed.
        token: The first token.
    """
    start = token.map[0] if token.map else 0
    return start > 0 and not source[start - 1].strip(" \t>")


def is_complete(source: str, shown: str, *, ordered: bool = True) -> bool:
    """Return whether each letter and digit of the source is shown, in the same order.

    Entities are not compared. The screen may show more, for example an address twice.

    Args:
        source: The Markdown.
        shown: The text on the screen.
        ordered: Compare the order as well as the counts.
    """
    text = ENTITY.sub(_without_entity, source)
    expected = [character for character in text if character.isalnum()]
    if not ordered:
        return Counter(expected) <= Counter(shown)
    rest = iter(shown)
    return all(character in rest for character in expected)


def plain_text(line: Line) -> str:
    """Return the text of a line without its styles."""
    return "".join(segment.text for segment in line)


def _without_entity(match: re.Match[str]) -> str:
    return "" if match[1] or f"{match[2]};" in html5 else match[0]


def _content(token: "Token") -> str:
    """Return the text of a token; the source of an entity whose character is invisible."""
    text = token.content
    if token.type == "text_special" and token.info == "entity" and text != "\xa0":
        return token.markup if text.isspace() or text != sanitize(text) else text
    return sanitize(text)


def _strip_end(line: Line) -> Line:
    """Return a line without spaces at its end."""
    line = list(line)
    while line:
        text, style, control = line[-1]
        if control or text.rstrip(" "):
            line[-1] = Segment(text if control else text.rstrip(" "), style, control)
            break
        del line[-1]
    return line
