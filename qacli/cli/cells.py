"""The width of text in terminal cells."""


def cell_width(text: str) -> int:
    """How wide a text is on the screen."""
    from rich.cells import cell_len

    return cell_len(text)


def truncate_cells(text: str, width: int) -> str:
    """The text exactly so wide: cut off, or with spaces after it."""
    from rich.cells import set_cell_size

    return (
        set_cell_size(text, width)
        if cell_width(text) <= width
        else set_cell_size(text, width - 1) + "…"
    )
