"""Show Markdown on a terminal while it arrives.

A complete block, which more text cannot change, is printed once and scrolls like any output. Of
the rest, the last lines that fit on the screen are drawn repeatedly. An open block of code is
printed line by line. Drawing takes at most a tenth of the time, so that an answer costs linear
processor time.
"""

import re
from time import monotonic
from typing import TYPE_CHECKING

from rich.live import Live
from rich.segment import SegmentLines
from rich.text import Text

from qacli.cli.code_highlighting import Highlighter
from qacli.cli.markdown import (
    OPENING_FENCE,
    Line,
    Renderer,
    is_separate,
    parse_blocks,
)
from qacli.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token
    from rich.console import Console

FRAMES_PER_SECOND = 12
PAUSE_FACTOR = 10
"""A drawing that took 1 second is followed by a pause of this many seconds."""


class MarkdownStream:
    """Print Markdown that arrives in pieces.

    Args:
        console: The terminal.
        live: Draws the text that may still change.
        show_reasoning: Print all of the reasoning, dimmed; otherwise none of it.
    """

    def __init__(self, console: "Console", live: Live, *, show_reasoning: bool = False) -> None:
        self._console = console
        self._live = live
        self._final = Renderer(console, fold=False)
        self._draft = Renderer(console, fold=True)
        self._arrived: list[str] = []
        self._rest = ""
        self._fence: _OpenFence | None = None
        self._printed = False
        self._gap = True
        self._next = 0.0
        self._show_reasoning = show_reasoning
        self._reasoning = ""
        self._has_printed_reasoning = self._has_text = False

    def add(self, text: str) -> None:
        """Add text, and draw if the pause since the last drawing is over."""
        if not self._has_text:
            self._has_text = True
            self._end_reasoning()
        self._arrived.append(text)
        self.redraw()

    def add_reasoning(self, text: str) -> None:
        """Add reasoning; reasoning that arrives after the answer has begun is shown below it."""
        if self._show_reasoning:
            self._reasoning += sanitize(text, self._reasoning[-1:])
            self.redraw()

    def redraw(self) -> None:
        """Draw the text that has arrived since the last drawing, if enough time has passed."""
        has_news = self._arrived or (self._reasoning and not self._has_text)
        if has_news and monotonic() >= self._next:
            started = monotonic()
            self.draw() if self._has_text else self._draw_reasoning()
            cost = monotonic() - started
            self._next = started + cost + max(1 / FRAMES_PER_SECOND - cost, cost * PAUSE_FACTOR)

    def draw(self) -> None:
        """Print the complete blocks, and draw the last lines of the rest."""
        done = self._take_complete()
        lines = self._fence.lines(self._rest, self._draft) if self._fence else []
        if not self._fence and self._rest.strip():
            lines = self._draft.render(self._rest)
            if self._printed and self._gap:
                lines.insert(0, [])
        # The cursor is on the line below them.
        rows = max(self._console.height - 1, 1)
        if done:
            self._live.update("")
            self._print(done)
        self._live.update(SegmentLines(lines[-rows:], new_lines=True), refresh=True)

    def _draw_reasoning(self) -> None:
        """Print the complete lines of the reasoning and draw the rest."""
        complete, newline, self._reasoning = self._reasoning.rpartition("\n")
        if newline:
            self._live.update("")
            self._print(self._dimmed(complete))
            self._has_printed_reasoning = True
        lines = self._dimmed(self._reasoning)[-max(self._console.height - 1, 1) :]
        self._live.update(SegmentLines(lines, new_lines=True), refresh=True)

    def _end_reasoning(self) -> None:
        """Print the reasoning that has not been printed yet."""
        rest, self._reasoning = self._reasoning.strip("\n"), ""
        if rest:
            self._live.update("", refresh=True)
            self._print(self._separated(self._dimmed(rest)))
        elif self._has_printed_reasoning:
            self._printed = True
        self._has_printed_reasoning = False

    def _dimmed(self, text: str) -> list[Line]:
        return self._console.render_lines(Text(text, style="dim"), pad=False) if text else []

    def finish(self) -> None:
        """Print the text that has not been printed yet."""
        done = self._take_complete()
        if self._fence is not None:
            done += self._fence.lines(self._rest, self._final) if self._rest else []
            done += self._final.code_rule("")
            self._fence = None
        elif self._rest.strip():
            done += self._separated(self._final.render(self._rest))
        self._rest = ""
        self._live.update("", refresh=True)
        self._print(done)
        self._end_reasoning()

    def _print(self, lines: list[Line]) -> None:
        if lines:
            self._console.print(SegmentLines(lines, new_lines=True), crop=False, end="")

    def _take_complete(self) -> list[Line]:
        """Take the text that more text cannot change from the rest, and return its lines."""
        self._rest += sanitize("".join(self._arrived), self._rest[-1:])
        self._arrived.clear()
        done: list[Line] = []
        while True:
            if self._fence is not None:
                lines, self._rest, is_open = self._fence.take(self._rest, self._final)
                done += lines
                if is_open:
                    return done
                self._fence = None
            elif (opened := _OpenFence.at_start(self._rest)) is not None:
                self._fence, self._rest = opened
                done += self._separated(self._final.code_rule(self._fence.info))
            else:
                end, gap = complete_length(self._rest, self._console.height)
                if not end:
                    return done
                done += self._separated(self._final.render(self._rest[:end]))
                self._rest, self._gap = self._rest[end:], gap

    def _separated(self, lines: list[Line]) -> list[Line]:
        """Return the lines of a block, with an empty line above them if needed."""
        if self._printed and self._gap:
            lines = [[], *lines]
        self._printed, self._gap = True, True
        return lines


class _OpenFence:
    """A fenced block of code that is not closed yet (CommonMark 0.31, section 4.5)."""

    def __init__(self, indent: int, fence: str, info: str) -> None:
        self.info = info
        self._indent = re.compile(f" {{0,{indent}}}")
        self._closing = re.compile(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*")
        self._highlighter = Highlighter(info)

    @classmethod
    def at_start(cls, text: str) -> "tuple[_OpenFence, str] | None":
        """Return the block that a text begins with, and the text after its first line."""
        start = len(text) - len(text.lstrip("\n"))
        line, newline, rest = text[start:].partition("\n")
        match = OPENING_FENCE.fullmatch(line)
        if match is None or not newline:
            return None
        return cls(len(match[1]), match[2], match[3].strip()), rest

    def take(self, text: str, renderer: Renderer) -> tuple[list[Line], str, bool]:
        """Return the lines of complete code, the text left over, and whether the block is open."""
        *lines, last = text.split("\n")
        for number, line in enumerate(lines):
            if self._closing.fullmatch(line):
                code = self._render(lines[:number], renderer)
                rest = "\n".join([*lines[number + 1 :], last])
                return code + renderer.code_rule(""), rest, False
        return self._render(lines, renderer), last, True

    def lines(self, text: str, renderer: Renderer) -> list[Line]:
        """Return the last, incomplete line of code; no lines if it may close the block."""
        if not text or self._closing.fullmatch(text):
            return []
        return renderer.code_line(Text(self._indent.sub("", text, count=1)))

    def _render(self, lines: list[str], renderer: Renderer) -> list[Line]:
        code = [self._indent.sub("", line, count=1) for line in lines]
        texts = self._highlighter.highlight(code)
        return [line for text in texts for line in renderer.code_line(text)]


def complete_length(text: str, rows: int) -> tuple[int, bool]:
    """Return how many characters at the start are complete: more text cannot change them.

    These are all blocks except the last; of a list that is longer than the screen, all items
    except the last.

    Args:
        text: The text so far.
        rows: The number of lines on the screen.

    Returns:
        The number of characters, and whether an empty line is needed before the following text.
    """
    # The last line may be incomplete, and can become anything.
    lines_text = text[: text.rfind("\n") + 1]
    if not lines_text.strip():
        return 0, True
    blocks = parse_blocks(lines_text)
    lines = lines_text.split("\n")
    last = blocks[-1] if blocks else []
    start = _start(last)
    if len(blocks) > 1 and start:
        return _length(lines, start), True
    if last and last[0].type.endswith("list_open") and len(lines) > rows:
        items = [token for token in last if token.type == "list_item_open" and token.level == 1]
        if len(items) > 1 and (start := _start(items[-1:])):
            return _length(lines, start), is_separate(lines, items[-1])
    return 0, True


def _start(tokens: "Sequence[Token]") -> int:
    return tokens[0].map[0] if tokens and tokens[0].map else 0


def _length(lines: list[str], count: int) -> int:
    return sum(len(line) + 1 for line in lines[:count])
