"""Calls of tools, and answers that fit a schema: a value is made for each JSON schema."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .behaviour import Json, Reply, Request

RESULT_TYPES = ("function_call_output", "custom_tool_call_output")


def with_tools(reply: Reply, request: Request) -> Reply:
    """Return the reply with its tool call or its JSON, where `tools` or `schema` asks for one."""
    if reply.schema and (schema := _answer_schema(request.body)) is not None:
        return replace(reply, text=json.dumps(sample(schema, schema)))
    tool = _first_tool(request.body)
    if tool is None or _results(request.body) >= reply.tools:
        return reply
    parameters = tool.get("parameters") or {}
    arguments = json.dumps(sample(parameters, parameters))
    return replace(reply, tool=str(tool.get("name")), arguments=arguments)


def sample(schema: Json, root: Json) -> Any:
    """Return a value that fits a schema as clients generate them."""
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return sample(target, root)
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return sample(schema[name][0], root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if "const" in schema or "enum" in schema:
        value = schema["const"] if "const" in schema else schema["enum"][0]
    elif kind == "object":
        properties = schema.get("properties", {})
        value = {name: sample(item, root) for name, item in properties.items()}
    elif kind == "array":
        value = [sample(schema.get("items", {"type": "string"}), root)]
    else:
        value = _simple(kind, schema)
    return value


def _simple(kind: str, schema: Json) -> object:
    simple = {"integer": schema.get("minimum", 1), "number": 1.5, "boolean": True, "null": None}
    return simple.get(kind, "x" * schema.get("minLength", 1))


def _first_tool(body: Json) -> Json | None:
    """Return the tool that the client demands, or the first of its functions."""
    tools = [item for item in body.get("tools") or [] if item.get("type") == "function"]
    functions: list[Json] = [item.get("function", item) for item in tools]
    choice = body.get("tool_choice")
    name = choice.get("function", choice).get("name") if isinstance(choice, dict) else None
    return next((item for item in functions if name in (None, item.get("name"))), None)


def _results(body: Json) -> int:
    """Return the number of tool results since the last message of the user."""
    items = body.get("messages", body.get("input"))
    number = 0
    for item in reversed(items if isinstance(items, list) else []):
        if item.get("role") == "user":
            break
        number += item.get("role") == "tool" or item.get("type") in RESULT_TYPES
    return number


def _answer_schema(body: Json) -> Json | None:
    wrapper = (body.get("response_format") or {}).get("json_schema")
    wrapper = wrapper or (body.get("text") or {}).get("format") or {}
    schema: Json | None = wrapper.get("schema")
    return schema
