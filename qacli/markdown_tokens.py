"""Tokens of markdown-it as elements; the terminal and the page each have a parser of their own.

The code of an answer needs no parser of theirs: `code_blocks` reads it by CommonMark alone.
"""

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block of code (CommonMark 0.31, section 4.5).

    Attributes:
        language: The first word after the opening fence, in lower case; "" where there is none.
        code: The lines between the fences, each with its line end.
    """

    language: str
    code: str


def code_blocks(text: str) -> list[CodeBlock]:
    """Return the fenced blocks of a Markdown text, also those in lists and quotations.

    A block without a closing fence ends with the text, as in an answer that was cut off.
    """
    from markdown_it import MarkdownIt

    # Only blocks are read: emphasis and links would cost time.
    tokens = MarkdownIt("commonmark").disable("inline").parse(text)
    return [
        CodeBlock((token.info.split() or [""])[0].lower(), token.content)
        for token in tokens
        if token.type == "fence"
    ]
