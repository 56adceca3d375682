import pytest

from qacli.errors import InvalidRequest
from qacli.tools import parse_tool


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
