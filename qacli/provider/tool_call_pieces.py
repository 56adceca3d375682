"""Join the pieces of tool calls of Chat Completions, in all their dialects.

A piece belongs to the call with the same `index`. An endpoint without indexes repeats the call's id
in each piece, or sends all pieces of a call before the next call.
"""

import json
from typing import Any

from qacli.provider.response import ChatResponse
from qacli.validation import sanitize_text

MAX_TOOL_CALLS = 1000
"""Calls of one answer; those after them are dropped."""


def add_tool_calls(response: ChatResponse, pieces: list[Any]) -> None:
    """Add the pieces of tool calls to `details`."""
    calls = response.details.setdefault("tool_calls", [])
    for piece in pieces:
        if not isinstance(piece, dict):
            continue
        # A custom tool of OpenAI has a text as its `input`.
        fields = next((piece[name] for name in ("function", "custom") if piece.get(name)), piece)
        function = fields if isinstance(fields, dict) else {}
        call_id, name = _text(piece.get("id")), _text(function.get("name"))
        call = _call_of_piece(response, calls, piece.get("index"), call_id, name)
        if call is None:
            continue
        call["id"] = call_id or call["id"]
        target = call["function"]
        # MiniMax at NVIDIA, Kimi and gateways repeat the name in each piece; Gemini has split it.
        if name is not None and name != target["name"]:
            target["name"] += name
        arguments = function.get("arguments")
        if arguments is None:
            arguments = function.get("input")
        if isinstance(arguments, dict | list):
            arguments = json.dumps(arguments, ensure_ascii=False)  # Ollama has sent objects
        target["arguments"] += _text(arguments) or ""


def _call_of_piece(
    response: ChatResponse,
    calls: list[dict[str, Any]],
    index: object,
    call_id: str | None,
    name: str | None,
) -> dict[str, Any] | None:
    """Return the call that a piece continues, or a new call if the piece begins one.

    A piece of a call after `MAX_TOOL_CALLS` has none.
    """
    key = str(index) if isinstance(index, int | str) else None
    position: int | None = None
    if key is not None or (call_id is None and name is None):
        position = response.call_places.get(key)
    elif call_id is not None:
        position = next((n for n, call in enumerate(calls) if call["id"] == call_id), None)
    if position is not None and not _begins_another(calls[position], call_id, name):
        return calls[position]
    if len(calls) >= MAX_TOOL_CALLS:
        # The next pieces without an id, or with the same index, belong to the dropped call too.
        for dropped in (key, None):
            response.call_places.pop(dropped, None)
        return None
    response.call_places[key] = response.call_places[None] = len(calls)
    calls.append({"id": None, "function": {"name": "", "arguments": ""}})
    return calls[-1]


def _begins_another(call: dict[str, Any], call_id: str | None, name: str | None) -> bool:
    """Return whether a piece with the index of a call begins another one.

    Ollama, Gemini and Claude behind gateways have numbered all calls 0. A new id alone is not
    enough: vLLM has sent a new one with each piece. Two calls of one function without ids cannot be
    told apart and are joined.
    """
    before: dict[str, str] = call["function"]
    if name is None or not before["name"]:
        return False
    if call_id is not None and call["id"] is not None:
        return call_id != str(call["id"])
    return name != before["name"] and bool(before["arguments"])


def _text(value: object) -> str | None:
    return sanitize_text(value) if isinstance(value, str) and value else None
