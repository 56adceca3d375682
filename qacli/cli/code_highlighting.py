"""Highlight code on a terminal, in linear time."""

from collections.abc import Iterator, Sequence
from time import process_time
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from rich.syntax import Syntax

TAB_WIDTH = 4

HIGHLIGHTED_CHARACTERS = 2_000
"""Characters that are highlighted at once; as many before them are read again for context."""
MAX_LINE_CHARACTERS = 500
"""Maximum length of a highlighted line: several of Pygments' lexers take quadratic time."""
HIGHLIGHT_SECONDS = 0.2
"""Processor time for one piece; after a slower piece the rest of the block is not highlighted."""


class Highlighter:
    """Highlight the lines of one block of code, in linear time.

    Args:
        info: The info string of the block; its first word is the language.
    """

    def __init__(self, info: str) -> None:
        self._language = info.split(maxsplit=1)[0] if info.strip() else ""
        self._syntax: Syntax | None = None
        self._before: list[str] = []
        self._off = not self._language

    def highlight(self, lines: Sequence[str]) -> Iterator[Text]:
        """Yield the next lines of the block, highlighted; a few lines before them are context."""
        piece: list[str] = []
        size = 0
        for line in lines:
            piece.append(line.expandtabs(TAB_WIDTH))
            size += len(piece[-1]) + 1
            if size >= HIGHLIGHTED_CHARACTERS:
                yield from self._highlighted(piece)
                piece, size = [], 0
        if piece:
            yield from self._highlighted(piece)

    def _highlighted(self, lines: list[str]) -> list[Text]:
        plain = [Text(line) for line in lines]
        # A control character that a lexer splits off must not shift the lines.
        if self._off or any(len(line) > MAX_LINE_CHARACTERS for line in lines):
            self._before = []
            return plain
        started = process_time()
        if self._syntax is None:
            from rich.syntax import Syntax

            self._syntax = Syntax("", self._language, theme="ansi_dark")
            self._off = self._syntax.lexer is None
        text = "\n".join([*self._before, *lines])
        highlighted = self._syntax.highlight(text).split("\n", allow_blank=True)
        self._off = self._off or process_time() - started > HIGHLIGHT_SECONDS
        texts = list(highlighted)[len(self._before) :][: len(lines)]
        self._before = _tail([*self._before, *lines], HIGHLIGHTED_CHARACTERS)
        for text_of_line in texts:
            text_of_line.style = ""
        return texts if [text.plain for text in texts] == lines else plain


def _tail(lines: list[str], size: int) -> list[str]:
    """Return the last lines that have at most `size` characters together."""
    start = len(lines)
    while start and (size := size - len(lines[start - 1]) - 1) >= 0:
        start -= 1
    return lines[start:]
