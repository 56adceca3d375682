"""Tokens of markdown-it as elements; the terminal and the page each have a parser of their own."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token


def split_elements(tokens: "Sequence[Token]") -> "list[Sequence[Token]]":
    """Return the tokens of each outermost element, such as a block; one without an end is left out.

    Args:
        tokens: Tokens in the order of the text, where each opening token has a closing one.
    """
    elements: list[Sequence[Token]] = []
    start = depth = 0
    for index, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            elements.append(tokens[start : index + 1])
            start = index + 1
    return elements
