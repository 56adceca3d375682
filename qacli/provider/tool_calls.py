"""Read tool calls, and write them as text that a person can read: `name(arguments)`, one a line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qacli.provider.response import ChatResponse, calls_of
from qacli.validation import sanitize_text

CALLS_BY_NAME = frozenset({"function_call", "custom_tool_call", "mcp_approval_request"})
"""The types of items of Responses that name a tool; the others are calls of a built-in one."""

NO_ARGUMENTS = frozenset({"type", "id", "call_id", "status", "pending_safety_checks"})
"""The fields of a call of a built-in tool that are not its arguments."""


def format_call(name: str, arguments: str) -> str:
    """Return a call as a line; the usual `{}` of a call without arguments is left out."""
    return f"{name}({'' if arguments.strip() == '{}' else arguments})"


def call_of_item(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an item of Responses that waits for the client, as a call of Chat Completions.

    A call of a built-in tool that the client runs (`local_shell_call`) has its type as the name.

    Returns:
        None if it is no call, or one that the provider runs (`web_search_call`).
    """
    kind = item.get("type")
    if not isinstance(kind, str):
        return None
    key, name = item.get("call_id"), item.get("name")
    arguments: object = item.get("arguments") or item.get("input")
    if kind not in CALLS_BY_NAME:
        if key is None or not kind.endswith("_call"):
            return None
        name = kind
        arguments = {field: value for field, value in item.items() if field not in NO_ARGUMENTS}
    if isinstance(arguments, dict | list):
        arguments = json.dumps(arguments, ensure_ascii=False)
    function = {"name": _text(name) or "", "arguments": _text(arguments) or ""}
    return {"id": _text(key or item.get("id")), "function": function}


def _text(value: object) -> str | None:
    return sanitize_text(value) if isinstance(value, str) and value else None


@dataclass(slots=True)
class ToolCallWriter:
    """Adds the tool calls of a response to its text, so that a record shows them.

    They are added while they arrive, because a process may end in the middle of them. At the end
    they are written as whole lines where the response has no other text, and removed if it has.
    """

    _written: list[int] = field(default_factory=list)
    _pieces: list[str] = field(default_factory=list)

    def new_text(self, response: ChatResponse) -> str:
        """Add the newly arrived arguments to the response's text, and return them."""
        if "tool_calls" not in response.details:
            return ""
        pieces: list[str] = []
        for place, (name, arguments) in enumerate(calls_of(response.details)):
            if place == len(self._written):
                pieces.append(f"{self._line_end(response)}{name}(")
                self._written.append(0)
            pieces.append(arguments[self._written[place] :])
            self._written[place] = len(arguments)
        text = "".join(pieces)
        if text:
            self._pieces.append(text)
            response.texts.append(text)
        return text

    def finish(self, response: ChatResponse) -> None:
        """Replace the text of the tool calls by a line for each, or remove it; see the class."""
        lines = [format_call(*call) for call in calls_of(response.details)]
        if not lines:
            return
        pieces = {id(piece) for piece in self._pieces}
        response.texts[:] = [text for text in response.texts if id(text) not in pieces]
        self._pieces.clear()
        if not response.text.strip():
            response.texts.append("\n".join(lines))

    def _line_end(self, response: ChatResponse) -> str:
        if self._pieces:
            return ")\n"
        return "\n" if response.texts and not response.texts[-1].endswith("\n") else ""
