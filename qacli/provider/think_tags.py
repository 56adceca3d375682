"""Separate the reasoning that some models write as `<think>` before their answer."""

from dataclasses import dataclass, field
from enum import Enum, auto

OPENING = "<think>"
CLOSING = "</think>"


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

    def feed(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the answer that this piece adds; either may be empty.

        The beginning of a tag is pending back until the next piece shows what it is.
        """
        reasoning = ""
        if self._state is _State.ANSWER:
            return "", text
        text, self._pending = self._pending + text, ""
        if self._state is _State.START:
            stripped = text.lstrip()
            if OPENING.startswith(stripped[: len(OPENING)]) and len(stripped) < len(OPENING):
                self._pending = text
                return "", ""
            if not stripped.startswith(OPENING):
                self._state = _State.ANSWER
                return "", text
            self._state, text = _State.REASONING, stripped.removeprefix(OPENING)
        if self._state is _State.REASONING:
            reasoning, tag, text = text.partition(CLOSING)
            if not tag:
                length = _partial_tag_length(reasoning)
                self._pending = reasoning[len(reasoning) - length :]
                return reasoning[: len(reasoning) - length], ""
            self._state = _State.ANSWER_START
        text = text.lstrip()
        if text:
            self._state = _State.ANSWER
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """Return the reasoning and the answer that were pending back."""
        pending, self._pending = self._pending, ""
        return (pending, "") if self._state is _State.REASONING else ("", pending)


def _partial_tag_length(text: str) -> int:
    """Return the length of the beginning of a closing tag at the end of the text."""
    lengths = range(min(len(CLOSING) - 1, len(text)), 0, -1)
    return next((size for size in lengths if text.endswith(CLOSING[:size])), 0)
