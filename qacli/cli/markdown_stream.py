"""Show Markdown while it arrives.

A block that no further text can change is printed for good, so that the answer scrolls as any
output does; of the rest, the last lines that fit on the screen are drawn again and again. An open
block of code is printed line by line. Drawing takes at most a tenth of the time, however long the
block is, so that an answer costs linear processor time.
"""

import re
from time import monotonic
from typing import TYPE_CHECKING

from rich.live import Live
from rich.segment import SegmentLines

from qacli.cli.markdown import (
    OPENING_FENCE,
    Highlighter,
    Line,
    Renderer,
    blocks,
    is_tight,
)
from qacli.sanitize import sanitize

if TYPE_CHECKING:
    from markdown_it.token import Token
    from rich.console import Console

FRAMES_PER_SECOND = 12
SHARE = 10
"""For each second that it took to draw, so many seconds until the next drawing."""
TWO = 2


class MarkdownStream:
    """Prints Markdown that arrives in pieces.

    Args:
        console: Where; a terminal.
        live: Draws what may still change.
    """

    def __init__(self, console: "Console", live: Live) -> None:
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

    def add(self, text: str) -> None:
        """Take text, and draw where it is time."""
        self._arrived.append(text)
        self.redraw()

    def redraw(self) -> None:
        """Draw what has arrived since the last drawing, where it is time."""
        if self._arrived and monotonic() >= self._next:
            started = monotonic()
            self.draw()
            cost = monotonic() - started
            self._next = started + cost + max(1 / FRAMES_PER_SECOND - cost, cost * SHARE)

    def draw(self) -> None:
        """Print what is settled, and draw the last lines of the rest."""
        done = self._settled()
        lines = self._fence.lines(self._rest, self._draft) if self._fence else []
        if not self._fence and self._rest.strip():
            lines = self._draft.render(self._rest)
            if self._printed and self._gap:
                lines.insert(0, [])
        # The cursor stands below them.
        most = max(self._console.height - 1, 1)
        if done:
            self._live.update("")
            self._print(done)
        self._live.update(SegmentLines(lines[-most:], new_lines=True), refresh=True)

    def finish(self) -> None:
        """Print all that has not been printed."""
        done = self._settled()
        if self._fence is not None:
            done += self._fence.lines(self._rest, self._final) if self._rest else []
            done += self._final.code_rule("")
            self._fence = None
        elif self._rest.strip():
            done += self._separated(self._final.render(self._rest))
        self._rest = ""
        self._live.update("", refresh=True)
        self._print(done)

    def _print(self, lines: list[Line]) -> None:
        if lines:
            self._console.print(SegmentLines(lines, new_lines=True), crop=False, end="")

    def _settled(self) -> list[Line]:
        """The lines of what no further text can change; it is taken from the rest."""
        self._rest += sanitize("".join(self._arrived), self._rest[-1:])
        self._arrived.clear()
        done: list[Line] = []
        while True:
            if self._fence is not None:
                found, self._rest, is_open = self._fence.take(self._rest, self._final)
                done += found
                if is_open:
                    return done
                self._fence = None
            elif (opened := _OpenFence.at_start(self._rest)) is not None:
                self._fence, self._rest = opened
                done += self._separated(self._final.code_rule(self._fence.info))
            else:
                end, gap = settled(self._rest, self._console.height)
                if not end:
                    return done
                done += self._separated(self._final.render(self._rest[:end]))
                self._rest, self._gap = self._rest[end:], gap

    def _separated(self, lines: list[Line]) -> list[Line]:
        """The lines of a block, after an empty one where one is due."""
        if self._printed and self._gap:
            lines = [[], *lines]
        self._printed, self._gap = True, True
        return lines


class _OpenFence:
    """A block of code that is not closed yet (CommonMark 0.31, section 4.5)."""

    def __init__(self, indent: int, fence: str, info: str) -> None:
        self.info = info
        self._indent = re.compile(f" {{0,{indent}}}")
        self._closing = re.compile(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*")
        self._highlighter = Highlighter(info)

    @classmethod
    def at_start(cls, text: str) -> "tuple[_OpenFence, str] | None":
        """The block with which a text begins, and the text behind its first line."""
        start = len(text) - len(text.lstrip("\n"))
        line, newline, rest = text[start:].partition("\n")
        found = OPENING_FENCE.fullmatch(line)
        if found is None or not newline:
            return None
        return cls(len(found[1]), found[2], found[3].strip()), rest

    def take(self, text: str, renderer: Renderer) -> tuple[list[Line], str, bool]:
        """The finished lines of the text, what is left of it, and whether the block is open."""
        *lines, last = text.split("\n")
        for number, line in enumerate(lines):
            if self._closing.fullmatch(line):
                found = self._rendered(lines[:number], renderer)
                rest = "\n".join([*lines[number + 1 :], last])
                return found + renderer.code_rule(""), rest, False
        return self._rendered(lines, renderer), last, True

    def lines(self, text: str, renderer: Renderer) -> list[Line]:
        """The last line of code, which may not be whole; none where it closes the block."""
        if not text or self._closing.fullmatch(text):
            return []
        from rich.text import Text

        return renderer.code_line(Text(self._indent.sub("", text, count=1)))

    def _rendered(self, lines: list[str], renderer: Renderer) -> list[Line]:
        code = [self._indent.sub("", line, count=1) for line in lines]
        texts = self._highlighter.highlight(code)
        return [line for text in texts for line in renderer.code_line(text)]


def settled(text: str, rows: int) -> tuple[int, bool]:
    """How many characters from the start no further text can change, and how they end.

    All but the last block; of a list that is longer than the screen, all but its last item.

    Args:
        text: The text so far.
        rows: The lines of the screen.

    Returns:
        The number of characters, and whether an empty line is due before what follows.
    """
    # A line that is not whole can become anything.
    whole = text[: text.rfind("\n") + 1]
    if not whole.strip():
        return 0, True
    found = blocks(whole)
    lines = whole.split("\n")
    last = found[-1] if found else []
    start = _start(last)
    if len(found) >= TWO and start:
        return _length(lines, start), True
    if last and last[0].type.endswith("list_open") and len(lines) > rows:
        items = [each for each in last if each.type == "list_item_open" and each.level == 1]
        if len(items) >= TWO and (start := _start(items[-1:])):
            return _length(lines, start), not is_tight(last[1:-1])
    return 0, True


def _start(tokens: "list[Token]") -> int:
    return tokens[0].map[0] if tokens and tokens[0].map else 0


def _length(lines: list[str], count: int) -> int:
    return sum(len(line) + 1 for line in lines[:count])
