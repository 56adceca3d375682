"""Built-in tools: the provider runs them, such as a search of the web, and qa has no code for them.

A tool is `{"type": "web_search", ...}`, as the Responses API takes it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from qacli.errors import InvalidRequest

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_.:-]*$"
ADVICE = 'Give a name such as web_search, or JSON: {"type": "web_search"}.'
RUN_BY_CLIENTS = frozenset({"function", "custom"})
REQUIRED_SETTINGS: Mapping[str, dict[str, Any]] = {
    "code_interpreter": {"container": {"type": "auto"}},
}
"""The settings without which OpenAI refuses a tool, with values for any question."""


def with_tools(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the names in `tools` replaced by tools; objects stay as they are.

    Raises:
        InvalidRequest: See `parse_tool`.
    """
    tools = options.get("tools")
    if isinstance(tools, str):
        tools = [tools]
    if not isinstance(tools, list):
        return dict(options)
    parsed = [parse_tool(tool) if isinstance(tool, str) else tool for tool in tools]
    return {**options, "tools": parsed}


def parse_tool(value: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool by its name, or by its settings as a JSON object or its text.

    Raises:
        InvalidRequest: The text is neither, or the tool is a function, which the client must run.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidRequest(f"The tool {value} is not JSON.", ADVICE) from None
    tool: dict[str, Any] = {"type": value} if isinstance(value, str) else dict(value)
    kind = tool.get("type")
    if not isinstance(kind, str) or not re.search(NAME_PATTERN, kind):
        raise InvalidRequest(f"The tool {value!r} has no valid type.", ADVICE)
    if kind in RUN_BY_CLIENTS:
        raise InvalidRequest(
            f"The tool {kind} is not built into the provider: the client must run it.",
            "Name a tool that the provider runs, such as web_search.",
        )
    return {**REQUIRED_SETTINGS.get(kind, {}), **tool}
