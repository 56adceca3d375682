"""Separate the channels of gpt-oss, for servers that send its text as the model wrote it.

A message is `<|start|>assistant<|channel|>final<|message|>TEXT<|end|>`, and the first one has no
`<|start|>assistant` (https://cookbook.openai.com/articles/openai-harmony).
"""

import re
from dataclasses import dataclass

CHANNELS = ("analysis", "commentary", "final")
OPENINGS = tuple(
    f"{start}<|channel|>{channel}" for start in ("", "<|start|>assistant") for channel in CHANNELS
)
"""The beginnings of such a text."""

MARKER = r"(<\|(?:start|channel|constrain|message|end|return|call)\|>)"
PARTIAL_MARKER = r"<(?:\|[a-z]{0,9}\|?)?$"
MESSAGE = "<|message|>"
ENDS = frozenset({"<|start|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>"})
REASONING_HEADER = r"<\|channel\|>\s*(analysis|commentary)"


@dataclass(slots=True)
class HarmonySplitter:
    """Splits a text of channels, in pieces, into reasoning and answer.

    The channel `final` is the answer; `analysis`, and `commentary` with the calls of tools, are
    reasoning.
    """

    _pending: str = ""
    _header: str | None = ""
    """The text since the last message; None inside a message."""

    _is_answer: bool = True
    _has_message: bool = False

    def feed(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the answer that this piece adds; either may be empty."""
        text = self._pending + text
        partial = re.search(PARTIAL_MARKER, text)
        self._pending = partial.group() if partial else ""
        reasoning, answer = "", ""
        for piece in re.split(MARKER, text[: len(text) - len(self._pending)]):
            piece_of_message = self._read(piece)
            if self._is_answer:
                answer += piece_of_message
            else:
                reasoning += piece_of_message
        return reasoning, answer

    def close(self) -> tuple[str, str]:
        """Return the reasoning and the answer that were held back.

        A header at the end without its message is dropped. Text that only looks like one is kept.
        """
        header, pending = self._header, self._pending
        self._header, self._pending = "", ""
        if header is None:
            return ("", pending) if self._is_answer else (pending, "")
        text = header + pending
        is_header = not text.strip() or (self._has_message and text.lstrip().startswith("<|"))
        return "", "" if is_header else text

    def _read(self, piece: str) -> str:
        """Read a marker or the text between two markers; return the text that a message gains."""
        if self._header is None and piece not in ENDS:
            return piece
        if piece == MESSAGE:
            self._is_answer = re.search(REASONING_HEADER, self._header or "") is None
            self._header, self._has_message = None, True
        else:
            is_end = piece in {"<|end|>", "<|return|>", "<|call|>"}
            self._header = "" if is_end and self._has_message else (self._header or "") + piece
        return ""
