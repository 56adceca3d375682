"""Separate the reasoning that some models write as `<think>` before their answer.

Gemini's compatible endpoint writes `<thought>`.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

CLOSING_TAGS = {"<think>": "</think>", "<thought>": "</thought>"}
"""The tags that begin reasoning, each with the tag that ends it."""


class _Place(Enum):
    START = auto()
    REASONING = auto()
    ANSWER_START = auto()
    ANSWER = auto()


@dataclass(slots=True)
class ThinkTagSplitter:
    """Splits a text that arrives in pieces into reasoning and answer.

    Only a tag before everything else begins reasoning; a tag in the middle of an answer is text.
    """

    _place: _Place = _Place.START
    _held: str = field(default="")
    _closing: str = field(default="")

    def feed(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the answer that this piece adds; either may be empty.

        The beginning of a tag is held back until the next piece shows what it is.
        """
        reasoning = ""
        if self._place is _Place.ANSWER:
            return "", text
        text, self._held = self._held + text, ""
        if self._place is _Place.START:
            stripped = text.lstrip()
            opening = next((tag for tag in CLOSING_TAGS if stripped.startswith(tag)), None)
            if opening is None:
                if any(tag.startswith(stripped) for tag in CLOSING_TAGS):
                    self._held = text
                    return "", ""
                self._place = _Place.ANSWER
                return "", text
            self._closing = CLOSING_TAGS[opening]
            self._place, text = _Place.REASONING, stripped.removeprefix(opening)
        if self._place is _Place.REASONING:
            reasoning, tag, text = text.partition(self._closing)
            if not tag:
                kept = _partial_tag_length(reasoning, self._closing)
                self._held = reasoning[len(reasoning) - kept :]
                return reasoning[: len(reasoning) - kept], ""
            self._place = _Place.ANSWER_START
        text = text.lstrip()
        if text:
            self._place = _Place.ANSWER
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """Return the reasoning and the answer that were held back."""
        held, self._held = self._held, ""
        return (held, "") if self._place is _Place.REASONING else ("", held)


def _partial_tag_length(text: str, closing: str) -> int:
    """Return the length of the beginning of a closing tag at the end of the text."""
    lengths = range(min(len(closing) - 1, len(text)), 0, -1)
    return next((size for size in lengths if text.endswith(closing[:size])), 0)
