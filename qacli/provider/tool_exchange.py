"""The tool calls and tool results of a record, for a person to read."""

import json
from collections.abc import Mapping
from typing import Any

from qacli.message_digests import is_result_type
from qacli.provider.response import calls_of
from qacli.provider.tool_calls import format_call

FOLDED_CHARACTERS = 40
"""The length of a folded line."""


def fold(text: str, length: int = FOLDED_CHARACTERS) -> str:
    """Return the start of a text in one line of at most this many characters."""
    start = " ".join(text[: length * 4].split())
    is_whole = len(start) <= length and len(text) <= length * 4
    return start if is_whole else f"{start[: length - 1]}…"


def folded_calls(details: Mapping[str, Any]) -> list[str]:
    """Return a line for each tool call of an answer: its name and the start of its arguments."""
    return [fold(format_call(*call)) for call in calls_of(details)]


def is_calls_only(answer: str | None, details: Mapping[str, Any]) -> bool:
    """Return whether an answer has no text but its tool calls."""
    calls = calls_of(details)
    return bool(calls) and answer == "\n".join(format_call(*call) for call in calls)


def has_tool_results(params: Mapping[str, Any]) -> bool:
    """Return whether the question of a record with these params is the results of tools."""
    messages = params.get("messages")
    return isinstance(messages, list) and bool(messages) and is_tool_result(messages[-1])


def is_tool_result(message: object) -> bool:
    """Return whether a message, or an item of Responses, is the result of a tool."""
    if not isinstance(message, Mapping):
        return False
    return message.get("role") in ("tool", "function") or is_result_type(message.get("type"))


def call_arguments(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return for each tool call its folded line, and its arguments as indented JSON.

    Arguments that are no JSON are returned as they are.
    """
    arguments = (_indented(text) for _name, text in calls_of(details))
    return list(zip(folded_calls(details), arguments, strict=True))


def _indented(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments
