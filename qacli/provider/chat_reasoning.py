"""Read the reasoning of a message of Chat Completions, in all its dialects."""

from typing import Any

from qacli.provider.json_values import as_dict, to_list
from qacli.provider.response import ChatResponse, TextEvent

REASONING_NAMES = ("reasoning_content", "reasoning", "thinking", "reasoning_text")
"""DeepSeek, vLLM and Qwen; Groq, OpenRouter and Ollama; Ollama's own API; GitHub."""

REASONING_TEXT_FIELDS = frozenset({"type", "id", "index", "format", "text", "summary"})
"""The fields of a part of `reasoning_details` without a signature and without encrypted data."""


def read_reasoning(part: dict[str, Any], response: ChatResponse) -> list[TextEvent]:
    """Read the reasoning of a message.

    OpenRouter has the same text once more in `reasoning_details`, with signatures and encrypted
    parts; LiteLLM in `thinking_blocks`, Portkey in `content_blocks`.
    """
    details = [item for item in to_list(part.get("reasoning_details")) if isinstance(item, dict)]
    text = next(
        (text for name in REASONING_NAMES if (text := _reasoning_text(part.get(name)))), None
    )
    if text is not None:
        events = _add_text(text, response)
    else:
        portkey = (
            as_dict(block.get("delta") or block)
            for block in map(as_dict, to_list(part.get("content_blocks")))
        )
        blocks = [
            *(*details, *to_list(part.get("thinking_blocks"))),
            *({"thinking": block.get("thinking")} for block in portkey),
        ]
        events = [
            event
            for item in blocks
            if isinstance(item, dict)
            for event in response.add_reasoning(
                item.get("text") or item.get("summary") or item.get("thinking")
            )
        ]
    opaque = [item for item in details if not item.keys() <= REASONING_TEXT_FIELDS]
    response.add_detail("reasoning_details", opaque, join=True)
    return events


def _reasoning_text(value: object) -> str | None:
    """Return reasoning that is a text, an object with a text, or a list of these."""
    if isinstance(value, list):
        return "".join(filter(None, map(_reasoning_text, value))) or None
    if isinstance(value, dict):
        value = value.get("content") or value.get("text")
    return value if isinstance(value, str) and value else None


def _add_text(text: str, response: ChatResponse) -> list[TextEvent]:
    """Add a piece of the reasoning, which may have all of the reasoning so far."""
    piece, before = response.cumulative_reasoning.read(text)
    if before is not None:
        response.reasoning_texts[:] = [before]
    return response.add_reasoning(piece)
