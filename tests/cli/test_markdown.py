"""An answer's Markdown on a terminal: nothing of it disappears, whatever it is."""

from __future__ import annotations

import io
import os
import random
import re
import time
from html.entities import html5
from typing import TYPE_CHECKING, Any

import pytest

from cli.conftest import Screen
from qacli.cli import formatters
from qacli.cli.console import Console
from qacli.cli.markdown import Renderer, plain_text
from qacli.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conftest import FakeProvider, Program

ANSWERS = int(os.environ.get("QA_TEST_ANSWERS", "300"))

ENTITY = re.compile(r"&(?:#[0-9]{1,7};|#[xX][0-9a-fA-F]{1,6};|([A-Za-z][A-Za-z0-9]{1,31};))")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Tty(io.StringIO):
    """A text stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(text: str, width: int = 60) -> str:
    """The text that a record's answer becomes on a screen, without styles."""
    console = formatters.console_on(Tty())
    console.width = width
    lines = Renderer(console, fold=False).render(sanitize(text))
    return "\n".join(plain_text(line) for line in lines)


def streamed(pieces: Iterable[str], monkeypatch: pytest.MonkeyPatch, *, rows: int = 24) -> str:
    """Everything that is written to a terminal while an answer arrives."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", str(rows))
    monkeypatch.setenv("TERM", "xterm-256color")
    file = Tty()
    with formatters.markdown_stream(Console(None, file, file)) as stream:
        for piece in pieces:
            stream.add(piece)
    return file.getvalue()


def visible(source: str) -> list[str]:
    """The letters and digits of a source that a reader must find on the screen."""

    def rest(found: re.Match[str]) -> str:
        return found[0] if found[1] and found[1] not in html5 else ""

    return [each for each in ENTITY.sub(rest, source) if each.isalnum()]


def is_subsequence(wanted: list[str], text: str) -> bool:
    rest = iter(text)
    return all(each in rest for each in wanted)


LEAVES = (
    *("word", "x", "1.", "2)", "42", "- ", "* ", "+ ", "> ", "# ", "## ", "    ", "\t", "  \n"),
    *("\n", "\n\n", "\n\n\n", "\\\n", "***", "**", "*", "_", "__", "~~", "~~~\n", "```\n", "`"),
    *(
        "```python title=x\n",
        "````\n",
        "``",
        "def f(x): return 1\n",
        "---\n",
        "===\n",
        "|",
        "| a | b |\n",
    ),
    *(
        "|---|:-:|\n",
        "| 1 | 2 | 3 |\n",
        "<b>",
        "</b>",
        "<int>",
        "vector<int>",
        "<br/>",
        "<!-- c -->",
    ),
    *(
        "<div class='x'>\n",
        "</div>\n",
        "<script>a()</script>",
        "<think>\nhm\n</think>\n",
        "<?php x ?>",
    ),
    *(
        "<![CDATA[y]]>",
        "<https://a.b/c?d=e>",
        "<me@b.c>",
        "[text](http://u.v/w)",
        '[t](<u v> "ti tle")',
    ),
    *(
        "[t]()",
        "[",
        "]",
        "(",
        ")",
        "![alt](i.png)",
        "![",
        "![a [b](c)](d 'e')",
        "[ref]: http://r.s 'T'\n",
    ),
    *("[^1]: note\n", "[^1]", "[ref]", "[a][ref]", "&lt;", "&amp;", "&copy;", "&#8206;", "&#x1b;"),
    *(
        "&nosuch;",
        "&",
        ";",
        "\\",
        "\\*",
        "\\[",
        "$x^2$",
        "\\(a\\)",
        "é",
        "ß",
        "漢字",
        "한글",
        "مرحبا",
    ),
    *(
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "\u202e",
        "\x1b[31m",
        "\x9b2J",
        "\x00",
        "\x07",
        "\x7f",
        "\ufeff",
    ),
    *(
        "\u200b",
        "\u2028",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x85",
        "\r\n",
        "\r",
        "\ud800",
        "a" * 130,
        "[x]: y",
    ),
    *(
        "- [ ] task\n",
        "1. one\n",
        "   1. in\n",
        "  - nested\n",
        "Title\n---\n",
        ":::note\n",
        "<a\nhref=x>",
    ),
)


def any_answer(dice: random.Random) -> str:
    if dice.random() < 0.1:
        return "".join(
            chr(dice.choice((dice.randrange(128), dice.randrange(0x3000)))) for _ in range(60)
        )
    return "".join(dice.choice((*LEAVES, " ", "\n")) for _ in range(dice.randrange(1, 40)))


def test_markdown_of_any_answer_shows_every_letter_and_digit() -> None:
    dice = random.Random(11)
    for number in range(ANSWERS):
        answer = any_answer(dice)
        width = dice.choice((80, 40, 24))
        screen = shown(answer, width)
        # The cells of a table stand side by side: there each letter is counted.
        wanted = visible(sanitize(answer))
        if "|" in answer:
            missing = [each for each in set(wanted) if wanted.count(each) > screen.count(each)]
            assert not missing, (number, answer, screen)
        else:
            assert is_subsequence(wanted, screen), (number, answer, screen)
        assert sanitize(screen) == screen, (number, answer)
        assert screen.strip() or not sanitize(answer).strip(), (number, answer)


def test_markdown_stream_of_any_answer_prints_every_letter_and_digit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qacli.cli.markdown_stream.FRAMES_PER_SECOND", 1e9)
    monkeypatch.setattr("qacli.cli.markdown_stream.SHARE", 0)
    dice = random.Random(12)
    for number in range(max(ANSWERS // 10, 30)):
        answer = any_answer(dice)
        size = dice.choice((1, 3, 20))
        pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
        rows = dice.choice((5, 24))
        out = streamed(pieces, monkeypatch, rows=rows)
        screen = Screen(rows).show(out.replace("\n", "\r\n"))
        wanted = visible(sanitize(answer))
        missing = [each for each in set(wanted) if wanted.count(each) > screen.count(each)]
        assert not missing, (number, answer, screen)
        for text in ESCAPE.split(out):
            assert sanitize(text) == text.replace("\r", ""), (number, answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "Use std::vector<int>, then git clone <url>",
            "Use std::vector<int>, then git clone <url>",
        ),
        ("<p>Hello</p>", "<p>Hello</p>"),
        ("<!-- secret -->", "<!-- secret -->"),
        ("<think>\nhm\n</think>\n\nYes.", "<think>\nhm\n</think>\n\nYes."),
        ('[the docs](https://a.b/é "T")', 'the docs (https://a.b/é "T")'),
        ("<https://a.b>", "https://a.b"),
        ("![a cat](cat.png)", "[image: a cat (cat.png)]"),
        (
            "Note[^1].\n\n[^1]: Below.\n[r]: http://a.b",
            "Note[^1].\n\n[^1]: Below.\n[r]: http://a.b",
        ),
        ("a &lt; b &amp; c&#8206;d", "a < b & c&#8206;d"),
        ("one  \ntwo\\\nthree", "one\ntwo\nthree"),
        ("| a | b |\n|---|---|\n| 1 | 2 | 3 |", "| a | b |\n|---|---|\n| 1 | 2 | 3 |"),
        (">" * 70 + " deep", ">" * 60 + "\n" + ">" * 10 + " deep"),
    ],
)
def test_markdown_without_a_place_on_a_terminal_is_shown_as_written(
    answer: str, expected: str
) -> None:
    assert shown(answer) == expected


def test_markdown_table_wider_than_the_screen_is_folded() -> None:
    long = "x" * 100
    screen = shown(f"| a | b |\n|---|---|\n| {long} | {long} |", 40)
    assert screen.count("x") == 200
    assert "…" not in screen
    assert max(map(len, screen.split("\n"))) <= 40


def test_markdown_code_begins_at_the_left_edge_and_is_marked_without_colour() -> None:
    code = "if x:\n    y = " + "z" * 100
    lines = shown(f"```python title=a\n{code}\n```").split("\n")
    assert lines[0].startswith("── python title=a ──")
    assert "\n".join(lines[1:-1]) == code
    assert set(lines[-1]) == {"─"}


@pytest.mark.parametrize(
    "answer",
    [
        "```python\n" + "".join(f"x{n} = {n}  # {'word ' * 8}\n" for n in range(600)) + "```\n",
        "".join(f"- item {n}\n" for n in range(600)),
        "word " * 4000,
        "| a | b |\n|---|---|\n" + "".join(f"| {n} | x |\n" for n in range(400)),
    ],
    ids=["code", "list", "paragraph", "table"],
)
def test_markdown_block_taller_than_the_window_costs_little(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [answer[at : at + 4] for at in range(0, len(answer), 4)]
    started = time.process_time()
    out = streamed(pieces, monkeypatch)
    # 600 lines of code took 11 s before.
    assert time.process_time() - started < 5
    assert len(out) < 40 * len(answer)


def test_markdown_code_taller_than_the_window_scrolls_as_it_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qacli.cli.markdown_stream.FRAMES_PER_SECOND", 1e9)
    monkeypatch.setattr("qacli.cli.markdown_stream.SHARE", 0)
    file = Tty()
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("COLUMNS", "60")

    def pieces() -> Iterable[str]:
        yield "```\n"
        for number in range(50):
            yield f"line {number}\n"
        yield ""
        seen.append(file.getvalue())
        yield "```\n\nEnd."

    seen: list[str] = []
    with formatters.markdown_stream(Console(None, file, file)) as stream:
        for piece in pieces():
            stream.add(piece)
    assert all(seen[0].count(f"line {number}\n") == 1 for number in range(49))
    assert file.getvalue().count("line 49\n") >= 1


def test_markdown_answer_on_a_terminal_keeps_angle_brackets(
    qa: Program, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    from fake_provider import Reply

    provider.script(Reply(text="Use std::vector<int>, then git clone <url>"))
    seen = console(qa, "ask", "x", columns=40, NO_COLOR="1")
    assert seen.screen.split() == ["Use", "std::vector<int>,", "then", "git", "clone", "<url>"]
    assert console(qa, "show", "last").screen.rstrip().endswith("git clone <url>")
