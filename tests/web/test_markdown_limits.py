import os
import re
from collections.abc import Callable
from html import unescape
from time import process_time

import pytest

from qacli.web.ui import highlighting
from qacli.web.ui.limits import CpuBudget
from qacli.web.ui.markdown import StreamingMarkdown, render
from qacli.web.ui.render_cache import RenderCache
from tests.web.hostile import answers

COUNT = int(os.environ.get("QA_TEST_MARKDOWN", "60"))
SECONDS = 0.2 if COUNT >= 1_000 else 1.0


def visible(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


@pytest.fixture(scope="module", autouse=True)
def loaded_lexers() -> None:
    """To load a lexer takes long, and is done once in a process."""
    for language in highlighting.LEXERS:
        render(f"```{language}\na = 1\n```")


def test_render_hostile_answers_stays_within_the_time_and_shows_everything(
    record_property: Callable[[str, object], None],
) -> None:
    slow = []
    for number, answer in enumerate(answers(COUNT)):
        began = process_time()
        html = render(answer)
        taken = process_time() - began
        slow.append((taken, number, answer[:60]))
        assert f"last{number}word" in visible(html), answer[:200]
    slow.sort(reverse=True)
    assert slow[0][0] < SECONDS, slow[:10]
    record_property("slowest_seconds", slow[0][0])


@pytest.mark.parametrize("opener", ["> ", "- ", "1. ", "- > "])
def test_render_block_nested_too_deeply_shows_its_text(opener: str) -> None:
    assert "hidden treasure" in visible(render(opener * 60 + "hidden treasure"))


def test_render_lists_nested_six_deep_formats_all_of_them() -> None:
    html = render("".join("  " * level + "- item\n" for level in range(6)))
    assert html.count("<ul>") == 6


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("cpp", "std::vector<int> v; // <b>"),
        ("csharp", 'List<string> s = new() { "<i>" };'),
        ("python", "x: list[int] = a < b > c"),
        ("brainfuck", "+<->"),
        ("csharp", "public " * 2_000 + "<end>"),
    ],
)
def test_render_code_shows_every_character(language: str, code: str) -> None:
    html = render(f"text vector<int>\n\n```{language}\n{code}\n```\n")
    assert "vector<int>" in visible(html)
    assert code in visible(html)
    assert "<pre" in html


def test_render_code_of_a_curly_language_marks_keywords_strings_and_comments() -> None:
    html = render('```java\npublic class A { String s = "b"; /* c */ }\n```')
    assert '<span class="k">public</span>' in html
    assert '<span class="s">"b"</span>' in html
    assert '<span class="cm">/* c */</span>' in html


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("see https://a.example/x.", "https://a.example/x"),
        ("(https://a.example/x_(y))", "https://a.example/x_(y)"),
        ("**https://a.example**", "https://a.example"),
        ("HTTPS://A.example/?b=c&d=e!", "HTTPS://A.example/?b=c&amp;d=e"),
        ("mailto:a@b.example, and", "mailto:a@b.example"),
        ("https://a.example/a_b_c and _d_", "https://a.example/a_b_c"),
        ("\u89c1https://a.example/\uff0c\u597d", None),
        ("xhttps://a.example", None),
        ("https://" + "a" * 3_000, None),
        ("README.md and a@b.example", None),
    ],
)
def test_render_address_in_text_becomes_a_link(text: str, address: str | None) -> None:
    found = re.search(r'href="([^"]*)"', render(text))
    assert (found[1] if found else None) == address


def test_render_table_with_too_many_cells_keeps_its_lines() -> None:
    rows = [f"| {n} | b | c |" for n in range(2_000)]
    html = render("| x | y | z |\n|---|---|---|\n" + "\n".join(rows) + "\n\nafter *it*")
    assert "\n".join(rows) in visible(html)
    assert "<em>it</em>" in html


@pytest.mark.parametrize("block", ["```python\n{}\n```", "{}", "- {}"])
def test_arriving_long_block_is_rendered_in_linear_time(block: str) -> None:
    def rendered(lines: int) -> int:
        arriving, characters, before = StreamingMarkdown(), 0, ""
        for line in block.format(("x = 1\n" * 40 + "\x00") * lines).split("\x00"):
            arriving.add(line)
            settled, growing = arriving.render()
            characters += len(settled) + (len(growing) if growing != before else 0)
            before = growing
        return characters

    assert rendered(40) < 2.8 * rendered(20)


def test_cache_same_answer_is_rendered_once_and_the_oldest_is_dropped() -> None:
    cache, page = RenderCache(capacity=60), CpuBudget(10)
    first = cache.render("*a*", page)
    assert cache.render("*a*", page) is first
    for n in range(10):
        cache.render(f"*{n}*", page)
    assert cache.render("*a*", page) is not first


def test_cache_page_without_time_shows_plain_text_until_there_is_time() -> None:
    cache = RenderCache()
    assert cache.render("*a* <b>", CpuBudget(-1)) == '<div class="plain">*a* &lt;b&gt;</div>'
    assert "<em>a</em>" in cache.render("*a* <b>", CpuBudget(10))
    assert "<em>a</em>" in cache.render("*a* <b>", CpuBudget(-1))
