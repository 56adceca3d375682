"""Separate the reasoning that some models write as `<think>` before their answer.

Gemini's compatible endpoint writes `<thought>`.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

CLOSING_TAGS = {"<think>": "</think>", "<thought>": "</thought>"}
"""The tags that begin reasoning, each with the tag that ends it."""


class _State(Enum):
    START = auto()
    REASONING = auto()
    ANSWER_START = auto()
    ANSWER = auto()


@dataclass(slots=True)
class ThinkTagSplitter:
    """Splits a text that arrives in pieces into reasoning and answer.

    Only a tag before everything else begins reasoning; a tag in the middle of an answer is text.
    """

    _state: _State = _State.START
    _pending: str = field(default="")
    _closing: str = field(default="")

    def feed(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the answer that this piece adds; either may be empty.

        The beginning of a tag is held back until the next piece shows what it is.
        """
        reasoning = ""
        if self._state is _State.ANSWER:
            return "", text
        text, self._pending = self._pending + text, ""
        if self._state is _State.START:
            stripped = text.lstrip()
            opening = next((tag for tag in CLOSING_TAGS if stripped.startswith(tag)), None)
            if opening is None:
                if any(tag.startswith(stripped) for tag in CLOSING_TAGS):
                    self._pending = text
                    return "", ""
                self._state = _State.ANSWER
                return "", text
            self._closing = CLOSING_TAGS[opening]
            self._state, text = _State.REASONING, stripped.removeprefix(opening)
        if self._state is _State.REASONING:
            reasoning, tag, text = text.partition(self._closing)
            if not tag:
                length = _partial_tag_length(reasoning, self._closing)
                self._pending = reasoning[len(reasoning) - length :]
                return reasoning[: len(reasoning) - length], ""
            self._state = _State.ANSWER_START
        text = text.lstrip()
        if text:
            self._state = _State.ANSWER
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """Return the reasoning and the answer that were held back."""
        pending, self._pending = self._pending, ""
        return (pending, "") if self._state is _State.REASONING else ("", pending)


def _partial_tag_length(text: str, closing: str) -> int:
    """Return the length of the beginning of a closing tag at the end of the text."""
    lengths = range(min(len(closing) - 1, len(text)), 0, -1)
    return next((size for size in lengths if text.endswith(closing[:size])), 0)
