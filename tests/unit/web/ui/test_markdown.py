from __future__ import annotations

import random
import re
from time import process_time

import pytest

from qacli.web.ui.markdown import MAX_CHARACTERS, StreamingMarkdown, render

ANSWER = """# Title

Some *text* with `code`, a link to https://b.example/x, and README.md.
Another line | of it.

### Deep

- one
- two

  with a second paragraph

  ```python
  def f(x): return "a<b>"  # c
  ```

1. first
2. second
**lazy** continuation

3. after an empty line

# Again

| a | b |
|:--|--:|
| 1 | 2 |

> quoted

---

    indented code

Setext
------

The end.
"""


@pytest.mark.parametrize(
    ("answer", "html"),
    [
        ("*a* **b** `c` ~~d~~", "<em>a</em> <strong>b</strong> <code>c</code> <s>d</s>"),
        ("__init__ of a*b*c", "<p>__init__ of a*b*c</p>"),
        (r"\\host\x in *.py", r"<p>\\host\x in *.py</p>"),
        ("a\n\n- b\n", "<ul>\n<li>b</li>\n</ul>"),
        ("3. x", '<ol start="3">'),
        ("- 1. \u05d0 b", '<ul dir="rtl">'),
        ("3. \u0627", '<ol start="3" dir="rtl">'),
        ("> `\u05d0`", '<blockquote dir="rtl">'),
        ("|1|\u05d0|\n|-|-|\n|a|b|", 'aria-label="Table" dir="rtl"><table>'),
        ("- a \u05d0", "<ul>"),
        ("- 1\n- 2", "<ul>"),
        ("```py\nx = 1\n```", '<span class="n">x</span>'),
        ("```nosuchlanguage\n<b>\n```", "&lt;b&gt;"),
        ("|a|\n|-:|\n|1|", '<td class="right">1</td>'),
        ("[a](https://a.example)", 'href="https://a.example"'),
        ("see https://a.example now", 'href="https://a.example"'),
    ],
)
def test_render_markdown_returns_html(answer: str, html: str) -> None:
    assert html in render(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "<style>*{display:none}</style>",
        "<a href='javascript:alert(1)'>x</a>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](java\nscript:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "<javascript:alert(1)>",
        "![x](https://evil.example/x.png)",
        "![x](data:image/png;base64,AAAA)",
        '![x" onerror="alert(1)](https://evil.example/"onerror="alert(1))',
        '[x](https://a.example "\\" onmouseover=\\"alert(1)")',
        "```<img src=x onerror=alert(1)>\ncode\n```",
        '```"><img src=x onerror=alert(1)>\ncode\n```',
        "|<img src=x onerror=alert(1)>|\n|-|\n|<script>|",
        "[x](/page/1/delete)",
        "[x](//evil.example)",
        "[x][r]\n\n[r]: javascript:alert(1)",
        "<svg/onload=alert(1)>",
        "<form action=/page/1/delete method=post><button>",
    ],
)
def test_render_html_in_an_answer_is_escaped(answer: str) -> None:
    for html in (render(answer), *_streamed(answer, 3)):
        tags = re.findall(r"<[^>]*>", html)
        assert not [tag for tag in tags if re.match(r"</?(img|script|style|svg|form|button)", tag)]
        for tag in tags:
            assert not re.search(r'["\s]on[a-z]+\s*=(?=\s*"[^"]*"\s*>)', tag), tag
            target = re.search(r'href="([^"]*)"', tag)
            assert target is None or target[1].startswith(("https://", "http://", "mailto:")), tag


def test_render_link_sends_no_referrer() -> None:
    assert 'rel="noopener nofollow noreferrer"' in render("[a](https://a.example)")


def test_render_image_is_a_link() -> None:
    html = render("![a *cat*](https://a.example/cat.png)")
    assert '<a href="https://a.example/cat.png"' in html
    assert "cat" in re.sub(r"<[^>]*>", "", html)


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        ([1, 2, 3], [3, 4, 5]),
        ([3, 3, 1], [3, 3, 3]),
        ([2, 4, 2, 3], [3, 4, 3, 4]),
        ([1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 6, 6]),
    ],
)
def test_render_headings_start_below_the_question_and_skip_no_level(
    levels: list[int], shown: list[int]
) -> None:
    answer = "\n\n".join("#" * level + " x" for level in levels)
    assert [int(n) for n in re.findall(r"<h(\d)>", render(answer))] == shown


def _streamed(answer: str, seed: int) -> list[str]:
    """Return what the page shows after each piece of an answer."""
    rng, at = random.Random(seed), 0
    stream, complete, pages = StreamingMarkdown(), "", []
    while at < len(answer):
        size = rng.randint(1, 7)
        stream.add(answer[at : at + size])
        at += size
        done, growing = stream.render()
        complete += done
        pages.append(complete + growing)
    return pages


@pytest.mark.parametrize("seed", range(8))
def test_streaming_markdown_of_pieces_equals_render(seed: int) -> None:
    assert _streamed(ANSWER, seed)[-1] == render(ANSWER)


def test_streaming_markdown_returns_complete_blocks_once() -> None:
    stream = StreamingMarkdown()
    stream.add("One.\n\nTwo.\n\nThr")
    assert stream.render() == ("<p>One.</p>\n<p>Two.</p>\n", "<p>Thr</p>\n")
    stream.add("ee.\n\nFour")
    assert stream.render() == ("<p>Three.</p>\n", "<p>Four</p>\n")


@pytest.mark.parametrize("piece", ["[", "http://", "x|y\n", "> "])
def test_render_repeated_pattern_takes_limited_time(piece: str) -> None:
    answer = piece * (MAX_CHARACTERS // len(piece))
    start = process_time()
    render(answer)
    render(f"```python\n{answer}")
    # Without limits this takes minutes.
    assert process_time() - start < 20


def test_render_too_long_answer_is_plain_text() -> None:
    html = render("<b> *x* " * MAX_CHARACTERS)
    assert html.startswith('<div class="plain">&lt;b&gt; *x* ')


def test_streaming_markdown_too_long_answer_is_plain_text() -> None:
    stream = StreamingMarkdown()
    stream.add("# x <b>" + " y" * MAX_CHARACTERS)
    done, growing = stream.render()
    assert done.startswith('<div class="plain"># x &lt;b&gt; y y')
    assert growing == ""
