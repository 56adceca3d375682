"""Measure, cut and align text in terminal cells."""

import re
from collections.abc import Iterable, Iterator, Sequence


def cell_width(text: str) -> int:
    """Return the width of a text on the screen, in cells."""
    from rich.cells import cell_len

    return cell_len(text)


def fit_to_width(text: str, width: int) -> str:
    """Return the text cut or padded with spaces to exactly this width."""
    from rich.cells import set_cell_size

    return (
        set_cell_size(text, width)
        if cell_width(text) <= width
        else set_cell_size(text, width - 1) + "…"
    )


def wrap_words(text: str, width: int) -> str:
    """Return the text with lines of at most this width, broken between words.

    Each new line is indented as the line before. A word that is wider than a line stays whole, so
    that an address can be copied.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        current = ""
        indent = line[: len(line) - len(line.lstrip())]
        for word in re.findall(r"\s*\S+", line):
            if current and cell_width(current + word) > width:
                lines.append(current)
                current = indent + word.lstrip()
            else:
                current += word
        lines.append(current)
    return "\n".join(lines)


def align(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield each row as a line: two spaces between columns, and all but the last one padded."""
    rows = list(rows)
    widths = [max(map(cell_width, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [fit_to_width(cell, width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
