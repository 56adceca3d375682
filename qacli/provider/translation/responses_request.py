"""Translate a client's request of Chat Completions into one of the Responses API."""

from collections.abc import Mapping
from typing import Any

from qacli.provider.api import CHAT_ONLY
from qacli.provider.json_values import as_dict, without_null
from qacli.provider.refused_features import Feature
from qacli.provider.responses_body import translate_body
from qacli.provider.translation.untranslatable import UNSUPPORTED_VALUE, Untranslatable

DEFAULTS: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "modalities": ["text"],
    "n": 1,
    "presence_penalty": 0,
}
"""The values with which these parameters change nothing."""

PARTS = ("text", "image_url", "file", "refusal")


def build_responses_request(body: Mapping[str, Any], refused: frozenset[Feature]) -> dict[str, Any]:
    """Return the body for the Responses API.

    Args:
        body: The body for Chat Completions.
        refused: The features that the endpoint does not take.

    Raises:
        Untranslatable: The body has a part that the Responses API does not have.
    """
    chat = {name: value for name, value in body.items() if value is not None}
    for name in sorted(CHAT_ONLY & chat.keys()):
        if chat[name] != DEFAULTS.get(name):
            raise Untranslatable(
                name,
                f"{name} cannot be used: this model only has the Responses API.",
                "Leave it out, or choose a model with Chat Completions.",
            )
        del chat[name]
    messages = chat.get("messages")
    chat["messages"] = messages if isinstance(messages, list) else []
    for place, message in enumerate(chat["messages"]):
        _check_message(message, f"messages[{place}]")
    tools = chat.get("tools")
    for place, tool in enumerate(tools if isinstance(tools, list) else []):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind != "function":
            raise _unsupported(f"tools[{place}].type", f"The tool {kind!r}")
    if isinstance(tools, list):
        # Responses makes a function strict where it says nothing; Chat Completions does not.
        chat["tools"] = [
            {**tool, "function": {"strict": False, **without_null(as_dict(tool.get("function")))}}
            for tool in tools
        ]
    choice = chat.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") != "function":
        raise _unsupported("tool_choice.type", f"The choice {choice.get('type')!r}")
    return translate_body(chat, refused, has_own_messages=True)


def _check_message(message: Any, name: str) -> None:  # noqa: ANN401 - JSON of the client
    if not isinstance(message, dict):
        return
    if message.get("role") == "function" or message.get("function_call"):
        raise _unsupported(name, "A message of the older functions")
    if message.get("audio"):
        raise _unsupported(f"{name}.audio", "Audio of the model")
    calls = message.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else []):
        kind = call.get("type", "function") if isinstance(call, dict) else None
        if kind != "function":
            raise _unsupported(f"{name}.tool_calls[{place}].type", f"A call of the type {kind!r}")
    content = message.get("content")
    for place, part in enumerate(content if isinstance(content, list) else []):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in PARTS:
            raise _unsupported(f"{name}.content[{place}].type", f"A part of the type {kind!r}")


def _unsupported(param: str, subject: str) -> Untranslatable:
    return Untranslatable(
        param,
        f"{subject} cannot be sent: this model only has the Responses API.",
        "Leave it out, or choose a model with Chat Completions.",
        UNSUPPORTED_VALUE,
    )
