"""Translate a request of the Responses API into one of Chat Completions.

Fields that are not named here go to the provider unchanged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from qacli.message_digests import SYSTEM_ROLES
from qacli.provider.json_values import as_dict, as_list, without_null
from qacli.provider.refused_features import Feature
from qacli.provider.translation.untranslatable import (
    UNSUPPORTED_VALUE,
    Untranslatable,
    no_such_response,
)

TEXT_PARTS = ("input_text", "output_text", "text", "refusal")
LOGPROBS = "message.output_text.logprobs"

ANSWERED_HERE = frozenset({"client_metadata", "include", "max_tool_calls", "metadata", "store"})
"""Fields without a part in Chat Completions: the response repeats them, and this server keeps the
response. The values of `include` besides `LOGPROBS`, and `max_tool_calls`, are about tools that are
refused, and about encrypted reasoning, which comes as text. `client_metadata` is about Codex."""

REFUSED = {
    "background": "Leave it out: the answer comes in this response.",
    "context_management": "Leave it out, and shorten the conversation in the client.",
    "conversation": "Use previous_response_id, or send the whole conversation as input.",
    "prompt": "Send the text of the prompt as input.",
}
"""The fields that change the answer and have no part in Chat Completions, with the advice."""


def build_chat_request(
    body: Mapping[str, Any], refused: frozenset[Feature], *, official: bool
) -> dict[str, Any]:
    """Return the body for Chat Completions.

    Args:
        body: The body for the Responses API.
        refused: The features that the endpoint does not take.
        official: The request goes to OpenAI itself, whose newer models refuse `max_tokens`.

    Raises:
        Untranslatable: The body has a part that Chat Completions does not have.
    """
    rest = {name: value for name, value in body.items() if value is not None}
    _check(rest)
    include = as_list(rest.get("include"))
    for name in (*ANSWERED_HERE, *REFUSED, "truncation", "stream_options"):
        rest.pop(name, None)
    messages = _messages(rest.pop("input", None))
    if instructions := rest.pop("instructions", None):
        messages.insert(0, {"role": "system", "content": instructions})
    chat: dict[str, Any] = {"messages": messages}
    if (limit := rest.pop("max_output_tokens", None)) is not None:
        prefers_new_name = official or Feature.MAX_TOKENS in refused
        is_new = prefers_new_name and Feature.MAX_COMPLETION_TOKENS not in refused
        chat["max_completion_tokens" if is_new else "max_tokens"] = limit
    chat |= _text_options(rest.pop("text", {}))
    chat |= _reasoning_options(rest.pop("reasoning", {}))
    if tools := rest.pop("tools", None):
        names = ((tool, f"tools[{place}]") for place, tool in enumerate(as_list(tools)))
        chat["tools"] = [_tool(*pair) for pair in names] if isinstance(tools, list) else tools
    if "tool_choice" in rest:
        chat["tool_choice"] = _tool_choice(rest.pop("tool_choice"))
    if LOGPROBS in include or "top_logprobs" in rest:
        chat["logprobs"] = True
    if rest.get("stream") and Feature.STREAM_OPTIONS not in refused:
        chat["stream_options"] = {"include_usage": True}
    return {**chat, **rest}


def _check(body: Mapping[str, Any]) -> None:
    for name, advice in REFUSED.items():
        if body.get(name):
            raise Untranslatable(
                name, f"{name} cannot be used: this provider only has Chat Completions.", advice
            )
    if body.get("truncation", "disabled") != "disabled":
        raise Untranslatable(
            "truncation",
            "Only the truncation 'disabled' can be used: this provider has Chat Completions only.",
            "Leave it out, and shorten the conversation in the client.",
            UNSUPPORTED_VALUE,
        )
    if response_id := body.get("previous_response_id"):
        raise no_such_response(response_id)


def _text_options(text: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON of the client
    options = dict(text) if isinstance(text, dict) else {}
    chat: dict[str, Any] = {}
    form = as_dict(options.pop("format", None))
    if form.get("type") == "json_schema":
        inner = {name: value for name, value in form.items() if name != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": without_null(inner)}
    elif form.get("type", "text") != "text":
        chat["response_format"] = form
    if (verbosity := options.pop("verbosity", None)) is not None:
        chat["verbosity"] = verbosity
    _require_empty(options, "text")
    return chat


def _reasoning_options(reasoning: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON of the client
    options = dict(reasoning) if isinstance(reasoning, dict) else {}
    # The reasoning itself comes where the provider sends it, so that none needs a summary.
    for name in ("summary", "generate_summary"):
        options.pop(name, None)
    effort = options.pop("effort", None)
    _require_empty(options, "reasoning")
    return {} if effort is None else {"reasoning_effort": effort}


def _require_empty(options: Mapping[str, Any], name: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise Untranslatable(
                f"{name}.{option}",
                f"{name}.{option} cannot be used: this provider only has Chat Completions.",
                "Leave it out.",
            )


def _tool(tool: Any, place: str) -> dict[str, Any]:  # noqa: ANN401 - JSON of the client
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind != "function":
        raise Untranslatable(
            f"{place}.type",
            f"The tool {kind!r} cannot be used: this provider only has Chat Completions, which "
            "takes tools of the type 'function'.",
            "Leave it out, or choose a model with the Responses API.",
            UNSUPPORTED_VALUE,
        )
    function = {name: value for name, value in tool.items() if name != "type"}
    return {"type": "function", "function": without_null(function)}


def _tool_choice(choice: Any) -> Any:  # noqa: ANN401 - JSON of the client
    if not isinstance(choice, dict):
        return choice
    inner = {name: value for name, value in choice.items() if name != "type"}
    if choice.get("type") == "function":
        return {"type": "function", "function": inner}
    if choice.get("type") == "allowed_tools":
        tools = [
            _tool(tool, f"tool_choice.tools[{place}]")
            for place, tool in enumerate(inner.get("tools", []))
        ]
        return {"type": "allowed_tools", "allowed_tools": {**inner, "tools": tools}}
    raise Untranslatable(
        "tool_choice.type",
        f"The tool {choice.get('type')!r} cannot be chosen: this provider has Chat Completions.",
        "Choose a function.",
        UNSUPPORTED_VALUE,
    )


def _messages(items: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON of the client
    """Return the messages of the items; the items of one answer become one message."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    items = items if isinstance(items, list) else []
    users = [place for place, item in enumerate(items) if _is_user(item)]
    newest = users[-1] if users else -1
    messages: list[dict[str, Any]] = []
    answer: dict[str, Any] | None = None
    for place, item in enumerate(items):
        name = f"input[{place}]"
        kind = item.get("type") or "message" if isinstance(item, dict) else "text"
        if kind == "function_call_output":
            output = _tool_result(item.get("output"), name)
            call_id = item.get("call_id")
            messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
            answer = None
        elif kind == "message" and item.get("role") != "assistant":
            messages.append(_message(item, name))
            answer = None
        else:
            if answer is None:
                answer = {"role": "assistant", "content": None}
                messages.append(answer)
            _add_to_answer(answer, kind, item, name, with_reasoning=place > newest)
    empty = {"role": "assistant", "content": None}
    return [message for message in messages if message != empty]


def _is_user(item: object) -> bool:
    return isinstance(item, dict) and item.get("role") == "user"


def _add_to_answer(
    answer: dict[str, Any], kind: str, item: dict[str, Any], name: str, *, with_reasoning: bool
) -> None:
    """Add an item of the model to its message.

    Args:
        answer: The message.
        kind: The type of the item.
        item: The item.
        name: Its place in the request.
        with_reasoning: Add reasoning. Models take it until the round of tools is over (DeepSeek,
            Kimi), and not with the next question.
    """
    if kind == "message":
        for part in _parts(item.get("content")):
            if part.get("type") not in TEXT_PARTS:
                raise _no_part(part, f"{name}.content")
        if text := _plain_text(item.get("content")):
            answer["content"] = "\n\n".join(filter(None, (answer["content"], text)))
    elif kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments") or ""}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        answer.setdefault("tool_calls", []).append(call)
    elif kind == "reasoning":
        parts = [*_parts(item.get("summary")), *_parts(item.get("content"))]
        text = "\n\n".join(str(part.get("text") or "") for part in parts)
        if text and with_reasoning:
            answer["reasoning_content"] = text
    else:
        raise Untranslatable(
            f"{name}.type",
            f"An item of the type {kind!r} cannot be sent: this provider only has Chat "
            "Completions.",
            "Leave it out, or send its text as a message.",
            UNSUPPORTED_VALUE,
        )


def _message(item: dict[str, Any], name: str) -> dict[str, Any]:
    role, content = item.get("role"), item.get("content")
    if role in SYSTEM_ROLES:
        return {"role": "system", "content": _plain_text(content)}
    if not isinstance(content, list):
        return {"role": role, "content": content}
    parts = [_part(part, f"{name}.content[{place}]") for place, part in enumerate(content)]
    # A text, which every endpoint takes.
    is_text = len(parts) == 1 and parts[0].get("type") == "text"
    return {"role": role, "content": parts[0]["text"] if is_text else parts}


def _part(part: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - JSON of the client
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in TEXT_PARTS:
        return {"type": "text", "text": part.get("text", "")}
    if kind == "input_image" and part.get("image_url"):
        image = {"url": part["image_url"], "detail": part.get("detail")}
        return {"type": "image_url", "image_url": without_null(image)}
    if kind == "input_file" and not part.get("file_url"):
        file = {name: value for name, value in part.items() if name not in {"type", "detail"}}
        return {"type": "file", "file": without_null(file)}
    if kind == "input_audio":
        return dict(part)
    raise _no_part(part, name)


def _no_part(part: Any, name: str) -> Untranslatable:  # noqa: ANN401 - JSON of the client
    kind = part.get("type") if isinstance(part, dict) else None
    return Untranslatable(
        name,
        f"A part of the type {kind!r} cannot be sent in this form: this provider only has Chat "
        "Completions.",
        "Send an image by its URL or its data, and a file by its data.",
        UNSUPPORTED_VALUE,
    )


def _tool_result(output: Any, name: str) -> str:  # noqa: ANN401 - JSON of the client
    for part in _parts(output):
        if part.get("type") not in TEXT_PARTS:
            raise Untranslatable(
                f"{name}.output",
                "The result of a tool can only be text: this provider only has Chat Completions.",
                "Send the image or the file in a message of the user.",
                UNSUPPORTED_VALUE,
            )
    return _plain_text(output)


def _plain_text(content: Any) -> str:  # noqa: ANN401 - JSON of the client
    if isinstance(content, str):
        return content
    return "\n\n".join(
        str(part.get("text") or part.get("refusal") or "") for part in _parts(content)
    )


def _parts(content: Any) -> Sequence[dict[str, Any]]:  # noqa: ANN401 - JSON of the client
    items = content if isinstance(content, list) else []
    return [part for part in items if isinstance(part, dict)]
