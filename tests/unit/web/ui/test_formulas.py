"""Formulas, task lists and line breaks in an answer."""

from __future__ import annotations

import pytest

from qacli.web.ui.markdown import StreamingMarkdown, render


@pytest.mark.parametrize(
    ("text", "html"),
    [
        (r"so \(x^2\) is", "<msup><mi>x</mi><mn>2</mn></msup></mrow></math> is"),
        ("a $$x_1$$ b", '<math display="block"><mrow><msub><mi>x</mi><mn>1</mn></msub>'),
        ("$$\nx\n+ y\n= 3\n$$", "<mi>x</mi><mo>+</mo><mi>y</mi><mo>=</mo><mn>3</mn>"),
        ("so\n\\[\n\\frac{a}{b}\n\\]\nthen", "<mfrac>"),
        ("- in a list\n  \\[\n  x\n  \\]", '<math display="block"><mrow><mi>x</mi>'),
        (r"\(a < b\)", "<mo>&lt;</mo>"),
        (r"\(\text{a <b> & c}\)", "<mtext>a\xa0&lt;b&gt;"),
    ],
)
def test_render_formula_gives_mathml(text: str, html: str) -> None:
    assert html.replace("\xa0", "&nbsp;") in render(text).replace("\xa0", "&nbsp;")
    assert "\\" not in render(text)


@pytest.mark.parametrize(
    "text", ["It costs $5 and $10.", "$$ or more", "`$$x$$`", "$$5 to $$ 10", r"    \[x\]"]
)
def test_render_without_formula_keeps_the_text(text: str) -> None:
    assert text.strip().strip("`") in render(text)
    assert "<math" not in render(text)


@pytest.mark.parametrize("source", [r"\(x_{\)", rf"\({'x ' * 1500}\)"])
def test_render_formula_that_cannot_be_set_shows_its_source(source: str) -> None:
    assert "<math" not in render(source)
    assert source.strip("\\()")[:3] in render(source)


def test_render_hostile_formula_is_sanitized() -> None:
    html = render(r"\(\href{javascript:alert(1)}{x} \text{<img src=x onerror=alert(1)>}\)")
    assert "href" not in html
    assert "<img" not in html


def test_streamed_formula_is_rendered_when_it_is_complete() -> None:
    markdown = StreamingMarkdown()
    markdown.add("$$\nx\n+ y")
    assert "<math" not in markdown.render()[1]
    markdown.add("\n$$")
    assert "<math" in markdown.render()[1]


def test_render_task_list_shows_boxes() -> None:
    html = render("- [ ] open\n- [x] **done**\n- [z] other")
    assert '<li class="task">\u2610 open</li>' in html
    assert '<li class="task">\u2611 <strong>done</strong></li>' in html
    assert "<li>[z] other</li>" in html


def test_render_br_breaks_the_line() -> None:
    assert "x<br>\ny" in render("| a |\n|---|\n| x<br/>y |")
    assert "&lt;br onclick=x&gt;" in render("a<br onclick=x>b")
