from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qacli import prompt_templates
from qacli.config.loader import load_settings
from qacli.errors import InvalidRequest, NotConfigured
from qacli.prompt_templates import Pattern, PromptTemplate

if TYPE_CHECKING:
    from pathlib import Path

    from qacli.config.settings import Settings


@pytest.fixture
def here(home: Path) -> Settings:
    """Settings with an empty directory for templates."""
    (home / "templates").mkdir()
    return load_settings()


def write_template(settings: Settings, name: str, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    prompt_templates.template_path(settings, name).write_bytes(data)


def test_load_template_is_read_beside_the_config_file(here: Settings, home: Path) -> None:
    write_template(
        here,
        "review",
        'system = "Be {tone}."\nquestion = "Review:\\n{input}"\nmodel = "m"\n'
        "temperature = 0\nmax_tokens = 5\n[schema]\ntype = 'object'\n",
    )
    found = prompt_templates.load_template(here, "review")
    assert prompt_templates.template_path(here, "review") == home / "templates" / "review.toml"
    assert (found.model, found.params) == ("m", {"temperature": 0, "max_tokens": 5})
    assert found.schema == {"type": "object"}
    assert found.placeholders() == ["input", "tone"]
    assert found.fill("a {b}\n", {"tone": "brief"}) == ("Review:\na {b}\n", "Be brief.")
    assert found.to_dict()["placeholders"] == ["input", "tone"]


@pytest.mark.parametrize(
    ("question", "given", "asked"),
    [
        (None, "the input", "the input"),
        ("{input}, {input}", "again", "again, again"),
        ("Review this.", "a\n", "Review this.\n\na\n"),
        ("Tell a joke.", "", "Tell a joke."),
        ('Say {{"a": 1}}', "", 'Say {"a": 1}'),
    ],
)
def test_fill_puts_the_input_at_its_place(question: str | None, given: str, asked: str) -> None:
    assert PromptTemplate(name="t", question=question).fill(given, {}) == (asked, None)


@pytest.mark.parametrize(
    ("question", "parameters", "said"),
    [
        (
            "{input}",
            {},
            "The placeholder {input} of the template 't' has no value. Give a question",
        ),
        ("{lang}", {}, "The placeholder {lang} of the template 't' has no value. Add: -p"),
        ('{"a": 1}', {}, "write {{ and }}"),
        ("{lang}", {"long": "x"}, "no placeholder 'long' for -p. Its placeholders are lang."),
        ("Hi", {"long": "x"}, "It has no placeholders."),
        ("{input}", {"input": "x"}, "no placeholder 'input'"),
    ],
)
def test_fill_placeholder_without_a_value_is_named(
    question: str, parameters: dict[str, str], said: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        PromptTemplate(name="t", question=question).fill(" \n", parameters)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question = ", "is not TOML: Invalid value (at end of document)"),
        ("a = 1\nquestion = x", "at line 2"),
        ("qestion = 'x'", "sets qestion, which is not one of system, question"),
        ("max_tokens = true", "sets max_tokens to True, which is not a whole number"),
        ("temperature = '1'", "which is not a number"),
        ("system = 3", "which is not text"),
        ("question = 'a {b'", "Write {{ for a literal brace."),
        (b"question = '\xff'", "cannot be read"),
    ],
)
def test_load_template_invalid_file_names_the_place(
    here: Settings, text: str | bytes, said: str
) -> None:
    write_template(here, "broken", text)
    with pytest.raises(NotConfigured) as caught:
        prompt_templates.load_template(here, "broken")
    assert said in str(caught.value)
    assert "broken.toml" in str(caught.value)


def test_load_template_missing_lists_the_existing_ones(here: Settings) -> None:
    with pytest.raises(InvalidRequest, match="qa template edit review"):
        prompt_templates.load_template(here, "review")
    write_template(here, "b", "")
    write_template(here, "a", "")
    with pytest.raises(InvalidRequest, match="The templates are a, b"):
        prompt_templates.load_template(here, "review")


@pytest.mark.parametrize("name", ["../config", "a/b", "", ".hidden", "a b", "x" * 101])
def test_template_path_outside_the_directory_is_refused(here: Settings, name: str) -> None:
    with pytest.raises(InvalidRequest, match="Invalid template name"):
        prompt_templates.template_path(here, name)


def test_starter_is_a_valid_template(here: Settings) -> None:
    write_template(here, "new", prompt_templates.STARTER.format(name="new"))
    assert prompt_templates.load_template(here, "new") == PromptTemplate(
        name="new", question="{input}"
    )
    commented = prompt_templates.template_path(here, "new").read_text().replace("\n# ", "\n")
    write_template(here, "new", commented)
    assert prompt_templates.load_template(here, "new").schema == "title, severity int, fix"


def test_pattern_names_are_unique() -> None:
    pattern = Pattern.parse("{a} {{b}} {c} {a}")
    assert pattern.names == ["a", "c"]
    assert pattern.fill(str.upper) == "A {b} C A"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{a:b}", ["a:b"]),
        ("{a!r}{b.c}{d[0]}", ["a!r", "b.c", "d[0]"]),
        ("{first name} { x }", ["first name", " x "]),
        ("{a{b}} {{{c}}}", ["a{b}", "c"]),
        ('{"a } b"}{"\\"q\\""}', ["a } b", '"q"']),
    ],
)
def test_pattern_names_can_have_any_character(text: str, names: list[str]) -> None:
    assert Pattern.parse(text).names == names


@pytest.mark.parametrize("text", ["a } b", "{a", '{"a"', '{"a" b}', "{a{b}"])
def test_pattern_with_a_single_brace_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Invalid template"):
        Pattern.parse(text)


def test_template_tools_by_name_become_tools(here: Settings) -> None:
    write_template(here, "news", 'tools = ["web_search"]\nreasoning_effort = "low"\n')
    params = {"tools": [{"type": "web_search"}], "reasoning_effort": "low"}
    assert prompt_templates.load_template(here, "news").params == params


@pytest.mark.parametrize("tools", ['["function"]', '["not valid"]', '"web_search"'])
def test_template_tools_that_cannot_be_used_are_refused(here: Settings, tools: str) -> None:
    write_template(here, "news", f"tools = {tools}\n")
    with pytest.raises(NotConfigured, match="news"):
        prompt_templates.load_template(here, "news")
