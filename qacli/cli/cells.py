"""Measure, cut and align text in terminal cells."""

from collections.abc import Iterable, Iterator, Sequence


def cell_width(text: str) -> int:
    """Return the width of a text on the screen, in cells."""
    from rich.cells import cell_len

    return cell_len(text)


def truncate_cells(text: str, width: int) -> str:
    """Return the text cut or padded with spaces to exactly this width."""
    from rich.cells import set_cell_size

    return (
        set_cell_size(text, width)
        if cell_width(text) <= width
        else set_cell_size(text, width - 1) + "…"
    )


def align(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield each row as a line: two spaces between columns, and all but the last one padded."""
    rows = list(rows)
    widths = [max(map(cell_width, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [truncate_cells(cell, width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
