import pytest

from qacli.errors import InvalidRequest
from qacli.tools import parse_tool, with_tools


def test_parse_tool_by_name_or_settings_is_an_object() -> None:
    assert parse_tool("web_search") == {"type": "web_search"}
    assert parse_tool("openrouter:web_search") == {"type": "openrouter:web_search"}
    settings = {"type": "code_interpreter", "container": "c1"}
    assert parse_tool(settings) == settings
    assert parse_tool(' {"type": "mcp", "server_label": "a"}') == {
        "type": "mcp",
        "server_label": "a",
    }
    assert parse_tool("code_interpreter")["container"] == {"type": "auto"}


@pytest.mark.parametrize("value", ["", " ", "a b", "[]", "{}", '{"type": []}', "{", "custom"])
def test_parse_tool_that_no_provider_runs_is_invalid(value: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_tool(value)


@pytest.mark.parametrize("tools", ["web_search", ["web_search"], [{"type": "web_search"}]])
def test_with_tools_names_become_tools(tools: object) -> None:
    options = with_tools({"tools": tools, "top_k": 1})
    assert options == {"tools": [{"type": "web_search"}], "top_k": 1}


def test_with_tools_leaves_functions_and_other_options_alone() -> None:
    function = {"type": "function", "function": {"name": "f"}}
    assert with_tools({"tools": [function]}) == {"tools": [function]}
    assert with_tools({"top_k": 1}) == {"top_k": 1}
