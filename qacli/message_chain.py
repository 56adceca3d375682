"""The chain of a conversation's messages, in which each message is stored once.

A message has a digest of itself and of the digest of the message before it, so two conversations
share the messages of their common beginning, and the last digest stands for all of them. White
space around a text and fields without a value do not count: clients add and remove them. The
system prompt at the beginning is no part of the chain, because it often has the time in it; a
record has it in a column.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

DIGEST_BYTES = 16
SYSTEM_ROLES = frozenset({"system", "developer"})
TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
CLIENT_ITEMS = frozenset({"function_call_output", "custom_tool_call_output", "message", None})
"""The types of items of Responses, without a role, that come from a client."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Link:
    """A message in its place.

    Attributes:
        digest: The digest of this message and all before it, in hexadecimal.
        parent: The digest of the message before it; None for the first.
        message: The message.
    """

    digest: str
    parent: str | None
    message: Any


def chain(messages: Sequence[Any]) -> list[Link]:
    """Return the links of a conversation, without the system prompt at its beginning."""
    links: list[Link] = []
    parent: str | None = None
    for message in messages[leading_system(messages) :]:
        text = f"{parent or ''}\n{_encode(_normal(message))}"
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[: 2 * DIGEST_BYTES]
        links.append(Link(digest, parent, message))
        parent = digest
    return links


def contexts(links: Sequence[Link]) -> dict[str, Any]:
    """Return the earlier requests of a conversation: each digest with the model's next message.

    The newest comes first. A run of items of the model, as Responses has them, is one answer.
    """
    return {
        links[index - 1].digest: links[index].message
        for index in range(len(links) - 1, 0, -1)
        if is_from_model(links[index].message) and not is_from_model(links[index - 1].message)
    }


def leading_system(messages: Sequence[Any]) -> int:
    """Return the number of system messages at the beginning."""
    for index, message in enumerate(messages):
        if not (isinstance(message, Mapping) and message.get("role") in SYSTEM_ROLES):
            return index
    return len(messages)


def is_from_model(message: Any) -> bool:  # noqa: ANN401 - any JSON
    """Return whether a message, or an item of Responses, is from the model."""
    if not isinstance(message, Mapping):
        return False
    if message.get("role") is not None:
        return bool(message["role"] == "assistant")
    return message.get("type") not in CLIENT_ITEMS


def _normal(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a message in the form that is digested."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        items = ((name, _normal(item)) for name, item in value.items())
        return {name: item for name, item in items if item not in (None, "", [], {})}
    if not isinstance(value, list):
        return value
    if len(value) == 1 and isinstance(value[0], Mapping) and value[0].get("type") in TEXT_PARTS:
        return _normal(value[0].get("text"))
    return [_normal(item) for item in value]
