from __future__ import annotations

import random
import re
from time import process_time

import pytest

from qacli.web.ui.markdown import LONGEST, StreamingMarkdown, render

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
        ("a\n\n- b\n", "<ul>\n<li>b</li>\n</ul>"),
        ("3. x", '<ol start="3">'),
        ("```py\nx = 1\n```", '<span class="n">x</span>'),
        ("```nosuchlanguage\n<b>\n```", "&lt;b&gt;"),
        ("|a|\n|-:|\n|1|", '<td class="right">1</td>'),
        ("[a](https://a.example)", 'href="https://a.example"'),
        ("see https://a.example now", 'href="https://a.example"'),
    ],
)
def test_markdown_becomes_html(answer: str, html: str) -> None:
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
def test_nothing_of_an_answer_is_html(answer: str) -> None:
    for html in (render(answer), *_arriving(answer, 3)):
        tags = re.findall(r"<[^>]*>", html)
        assert not [tag for tag in tags if re.match(r"</?(img|script|style|svg|form|button)", tag)]
        for tag in tags:
            assert not re.search(r'["\s]on[a-z]+\s*=(?=\s*"[^"]*"\s*>)', tag), tag
            target = re.search(r'href="([^"]*)"', tag)
            assert target is None or target[1].startswith(("https://", "http://", "mailto:")), tag


def test_a_link_tells_nobody_where_it_was_followed() -> None:
    assert 'rel="noopener nofollow noreferrer"' in render("[a](https://a.example)")


def test_an_image_is_a_link() -> None:
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
def test_headings_stand_below_the_question_and_skip_no_level(
    levels: list[int], shown: list[int]
) -> None:
    answer = "\n\n".join("#" * level + " x" for level in levels)
    assert [int(n) for n in re.findall(r"<h(\d)>", render(answer))] == shown


def _arriving(answer: str, seed: int) -> list[str]:
    """What is shown while an answer arrives in pieces of some size."""
    chance, at = random.Random(seed), 0
    arriving, settled, shown = StreamingMarkdown(), "", []
    while at < len(answer):
        size = chance.randint(1, 7)
        arriving.add(answer[at : at + size])
        at += size
        done, growing = arriving.render()
        settled += done
        shown.append(settled + growing)
    return shown


@pytest.mark.parametrize("seed", range(8))
def test_what_arrived_in_pieces_is_what_it_is_in_one(seed: int) -> None:
    assert _arriving(ANSWER, seed)[-1] == render(ANSWER)


def test_settled_blocks_leave_and_the_last_one_grows() -> None:
    arriving = StreamingMarkdown()
    arriving.add("One.\n\nTwo.\n\nThr")
    assert arriving.render() == ("<p>One.</p>\n<p>Two.</p>\n", "<p>Thr</p>\n")
    arriving.add("ee.\n\nFour")
    assert arriving.render() == ("<p>Three.</p>\n", "<p>Four</p>\n")


@pytest.mark.parametrize("piece", ["[", "http://", "x|y\n", "> "])
def test_a_hostile_answer_is_rendered_soon(piece: str) -> None:
    answer = piece * (LONGEST // len(piece))
    began = process_time()
    render(answer)
    render(f"```python\n{answer}")
    # It takes a second or two; where it went wrong it would be minutes.
    assert process_time() - began < 20


def test_a_very_long_answer_is_shown_as_it_is_written() -> None:
    html = render("<b> *x* " * LONGEST)
    assert html.startswith('<div class="plain">&lt;b&gt; *x* ')


def test_a_very_long_answer_arrives_as_it_is_written_too() -> None:
    arriving = StreamingMarkdown()
    arriving.add("# x <b>" + " y" * LONGEST)
    done, growing = arriving.render()
    assert done.startswith('<div class="plain"># x &lt;b&gt; y y')
    assert growing == ""
