"""Translate the body of a Chat Completions request into one of the Responses API.

The two APIs have the same fields by different names. Fields that are not named here go to the
provider unchanged.
"""

from typing import Any

from qacli.provider.json_values import as_dict, as_list
from qacli.provider.refused_features import Feature

WEB_SEARCH_SOURCES = "web_search_call.action.sources"
LOGPROBS = "message.output_text.logprobs"
NO_REASONING = "none"
"""The value of `reasoning_effort` with which there is nothing to summarize."""


def translate_body(
    chat: dict[str, Any], refused: frozenset[Feature], *, has_own_messages: bool
) -> dict[str, Any]:
    """Return the body for the Responses API.

    Args:
        chat: The body for Chat Completions.
        refused: The features that the endpoint does not take.
        has_own_messages: The messages are the user's, and a system prompt stays among them.
    """
    rest = dict(chat)
    messages = rest.pop("messages")
    body: dict[str, Any] = {}
    if not has_own_messages and messages[0]["role"] == "system":
        body["instructions"] = messages[0]["content"]
        messages = messages[1:]
    body["input"] = [item for message in messages for item in input_items(message)]
    rest.pop("stream_options", None)  # has another meaning here: the usage always comes
    limits = [rest.pop(name, None) for name in ("max_completion_tokens", "max_tokens")]
    limit = next((value for value in limits if value is not None), None)
    if limit is not None:
        body["max_output_tokens"] = limit
    tools = as_list(rest.pop("tools", None))
    if tools:
        body["tools"] = [_translate_tool(tool) for tool in tools]
    if "tool_choice" in rest:
        rest["tool_choice"] = _translate_tool(rest["tool_choice"])
    _add(body, "text", _text_options(rest))
    _add(body, "reasoning", _reasoning_options(rest, refused))
    _add(body, "include", [] if Feature.INCLUDE in refused else _includes(rest, tools))
    return {**body, "store": False, **rest}


def _add(body: dict[str, Any], name: str, value: dict[str, Any] | list[str]) -> None:
    if value:
        body[name] = value


def _text_options(rest: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    form = rest.pop("response_format", None)
    if isinstance(form, dict):
        wrapped = form.get("json_schema")
        inner = wrapped if isinstance(wrapped, dict) else {}
        options["format"] = {**{k: v for k, v in form.items() if k != "json_schema"}, **inner}
    if (verbosity := rest.pop("verbosity", None)) is not None:
        options["verbosity"] = verbosity
    return {**options, **as_dict(rest.pop("text", None))}


def _reasoning_options(rest: dict[str, Any], refused: frozenset[Feature]) -> dict[str, Any]:
    """Return `reasoning`. OpenAI sends no reasoning itself, only a summary to those that ask."""
    options = as_dict(rest.pop("reasoning", None))
    if (effort := rest.pop("reasoning_effort", None)) is not None:
        options = {"effort": effort, **options}
    is_summarized = bool(options) and options.get("effort") != NO_REASONING
    if is_summarized and Feature.REASONING_SUMMARY not in refused:
        options = {"summary": "auto", **options}
    return options


def _includes(rest: dict[str, Any], tools: list[Any]) -> list[str]:
    """Return the fields that are sent only if they are requested."""
    includes: list[str] = []
    kinds = {tool.get("type") for tool in tools if isinstance(tool, dict)}
    if any(isinstance(kind, str) and kind.startswith("web_search") for kind in kinds):
        includes.append(WEB_SEARCH_SOURCES)
    if rest.pop("logprobs", None):
        includes.append(LOGPROBS)
    return [*includes, *as_list(rest.pop("include", None))]


def _translate_tool(tool: Any) -> Any:  # noqa: ANN401 - JSON of the user
    """Return a tool or a choice of one: the fields of a function are not in an object of theirs."""
    if not isinstance(tool, dict) or not isinstance(tool.get("function"), dict):
        return tool
    return {**{k: v for k, v in tool.items() if k != "function"}, **tool["function"]}


def input_items(message: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON of the user
    """Return the items of a message: calls of tools, and their results, are items of their own."""
    if not isinstance(message, dict):
        return [message]
    role, content = message.get("role"), message.get("content")
    if role in ("tool", "function"):
        output = {"call_id": message.get("tool_call_id"), "output": _plain_text(content)}
        return [{"type": "function_call_output", **output}]
    items: list[dict[str, Any]] = []
    if content:
        # llama.cpp takes an answer only with its type, vLLM its text only as a string.
        fields = {"role": role, "content": _translate_content(role, content)}
        items.append({"type": "message", **fields})
    for call in as_list(message.get("tool_calls")):
        function = as_dict(call.get("function") if isinstance(call, dict) else None)
        inner = {name: function.get(name, "") for name in ("name", "arguments")}
        items.append({"type": "function_call", "call_id": call.get("id"), **inner})
    return items


def _translate_content(role: object, content: Any) -> Any:  # noqa: ANN401 - JSON of the user
    if not isinstance(content, list):
        return content
    if role == "assistant":
        # The parts of an output message need the ids of that answer; a text needs none.
        return _plain_text(content)
    return [_translate_part(part) for part in content]


def _translate_part(part: Any) -> Any:  # noqa: ANN401 - JSON of the user
    if not isinstance(part, dict):
        return part
    kind, inner = part.get("type"), as_dict(part.get(str(part.get("type"))))
    if kind == "text":
        return {"type": "input_text", "text": part.get("text", "")}
    if kind == "image_url":
        return {
            "type": "input_image",
            "image_url": inner.get("url"),
            "detail": inner.get("detail") or "auto",
        }
    if kind == "file":
        return {"type": "input_file", **inner}
    return part


def _plain_text(content: Any) -> str:  # noqa: ANN401 - JSON of the user
    if isinstance(content, str):
        return content
    parts = [part for part in as_list(content) if isinstance(part, dict)]
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
