"""Separate the reasoning that some models write into their text, before the answer.

It stands in tags, before a closing tag alone, or in the channels of gpt-oss.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, auto

from qacli.provider.harmony import OPENINGS, HarmonySplitter

CLOSING_TAGS = {
    "<think>": "</think>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<thinking>": "</thinking>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<seed:think>": "</seed:think>",
    "<|channel>thought": "<channel|>",
}
"""The tags that begin reasoning, each with the tag that ends it.

DeepSeek, Qwen and many others; Gemini's compatible endpoint; gpt-oss and Nova at Bedrock;
Mistral's Magistral; Moonshot's Kimi-VL; ByteDance's Seed-OSS; Google's Gemma 4.
"""

OPENED_BY_TEMPLATE = re.compile(
    r"deepseek[-_. ]?r1|qwq|qwen.*thinking|minimax[-_. ]?m2", re.IGNORECASE
)
"""The models whose chat template writes `<think>`: their own text has the closing tag alone.

A server without a reasoning parser sends that text (vllm-project/vllm#13125,
ggml-org/llama.cpp#11861 and cubist38/mlx-openai-server#179 on GitHub).
"""


class _State(Enum):
    START = auto()
    REASONING = auto()
    CHANNELS = auto()
    ANSWER_START = auto()
    ANSWER = auto()


@dataclass(slots=True)
class ThinkTagSplitter:
    """Splits a text that arrives in pieces into reasoning and answer.

    Only a tag before everything else begins reasoning; a tag in the middle of an answer is text.

    Attributes:
        starts_open: Reasoning begins without a tag; see `has_no_tag`.
    """

    starts_open: bool = False
    _state: _State = _State.START
    _pending: str = ""
    _closing: str = "</think>"
    _untagged: list[str] = field(default_factory=list)
    _channels: HarmonySplitter = field(default_factory=HarmonySplitter)

    @property
    def has_no_tag(self) -> bool:
        """True while no tag has arrived: text returned as reasoning may be the answer."""
        return self._state is _State.REASONING and self.starts_open

    def feed(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the answer that this piece adds; either may be empty.

        The beginning of a tag is held back until the next piece arrives.
        """
        text, self._pending = self._pending + text, ""
        if self._state is _State.START:
            text = self._begin(text)
        if self._state is _State.CHANNELS:
            return self._channels.feed(text)
        reasoning = ""
        if self._state is _State.REASONING:
            reasoning, tag, text = text.partition(self._closing)
            if not tag:
                length = _partial_tag_length(reasoning, self._closing)
                self._pending = reasoning[len(reasoning) - length :]
                reasoning = reasoning[: len(reasoning) - length]
                if self.starts_open:
                    self._untagged.append(reasoning)
                return reasoning, ""
            self._state = _State.ANSWER_START
        if self._state is _State.ANSWER_START:
            text = text.lstrip()
            while text.startswith(self._closing):  # of a tag inside of the first one
                text = text.removeprefix(self._closing).lstrip()
            if self._closing.startswith(text):
                text, self._pending = "", text
            if text:
                self._state = _State.ANSWER
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """End the text: return the reasoning and the answer that `feed` has held back.

        Where `has_no_tag`, the answer is the whole text.
        """
        if self._state is _State.CHANNELS:
            return self._channels.close()
        pending, self._pending = self._pending, ""
        if self._state is _State.REASONING and not self.starts_open:
            return pending, ""
        return "", "".join(self._untagged) + pending if self.has_no_tag else pending

    def _begin(self, text: str) -> str:
        """Leave the state START if the text shows how it begins; return the rest of the text."""
        stripped = text.lstrip()
        # A closing tag alone: DeepSeek, GLM and Qwen, whose server has separated the reasoning.
        openings = (*CLOSING_TAGS, *CLOSING_TAGS.values(), *OPENINGS)
        opening = next((tag for tag in openings if stripped.startswith(tag)), None)
        if opening is None and any(tag.startswith(stripped) for tag in openings):
            self._pending = text
            return ""
        if opening in CLOSING_TAGS:
            self._state, self.starts_open = _State.REASONING, False
            self._closing = CLOSING_TAGS[opening]
            return stripped.removeprefix(opening)
        if opening in CLOSING_TAGS.values():
            self._state = _State.ANSWER_START
            return stripped.removeprefix(opening or "")
        if opening is not None:
            self._state = _State.CHANNELS
            return stripped
        self._state = _State.REASONING if self.starts_open else _State.ANSWER
        return text


def _partial_tag_length(text: str, closing: str) -> int:
    """Return the length of the beginning of a closing tag at the end of the text."""
    lengths = range(min(len(closing) - 1, len(text)), 0, -1)
    return next((size for size in lengths if text.endswith(closing[:size])), 0)
