"""The width of text in terminal cells."""


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
