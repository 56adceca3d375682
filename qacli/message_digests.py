"""Digests of the messages of a conversation, by which its thread is found.

A client sends the whole conversation each time. A message has a digest of itself and of the digest
of the message before it, so that the last digest stands for all of them. White space around a text
and fields without a value do not count: clients add and remove them. The system prompt at the
beginning does not count either, because it often has the time in it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

DIGEST_BYTES = 16
# Not sets: a value of a request is looked for in them, and lists and objects have no hash.
SYSTEM_ROLES = ("system", "developer")
TEXT_PARTS = ("text", "input_text", "output_text")
APPROVAL = "mcp_approval_response"
"""The type of the item with which a client allows or refuses a tool call of the provider."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """An earlier request of a conversation.

    Attributes:
        digest: The digest of its messages.
        end: The number of its messages.
        answer: The messages of the model after it.
    """

    digest: str
    end: int
    answer: Sequence[Mapping[str, Any]]


def digests(messages: Sequence[Any]) -> list[str]:
    """Return the digest, in hexadecimal, of each message with all before it.

    Args:
        messages: The messages, without the system prompt at the beginning.
    """
    chain: list[str] = []
    for message in messages:
        text = f"{chain[-1] if chain else ''}\n{_encode(_normal(message))}"
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        chain.append(digest[: 2 * DIGEST_BYTES])
    return chain


def earlier_requests(messages: Sequence[Any]) -> list[EarlierRequest]:
    """Return the requests that a conversation continues, the newest first.

    A run of items of the model, as Responses has them, is one answer.
    """
    of_model = [*map(is_from_model, messages), False]
    requests: list[EarlierRequest] = []
    for end, digest in enumerate(digests(messages), 1):
        if of_model[end] and not of_model[end - 1]:
            stop = of_model.index(False, end)
            requests.append(EarlierRequest(digest, end, messages[end:stop]))
    return requests[::-1]


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
    kind = message.get("type")
    return kind not in ("message", None) and not is_result_type(kind)


def is_result_type(kind: object) -> bool:
    """Return whether items of Responses of this type are the results of calls.

    Each call that a client runs has its own type (functions, shells, patches, computers).
    """
    return isinstance(kind, str) and (kind.endswith("_call_output") or kind == APPROVAL)


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
