"""Markdown of an answer on a terminal: all of its text is shown."""

from __future__ import annotations

import io
import os
import random
import re
import time
from html.entities import html5
from typing import TYPE_CHECKING, Any

import pytest
from hostile_markdown import answers

from integration.cli.conftest import Screen
from qacli.cli import formatters
from qacli.cli.console import Console
from qacli.cli.markdown import Renderer, plain_text
from qacli.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conftest import FakeProvider, Invoke

ANSWERS = int(os.environ.get("QA_TEST_ANSWERS", "300"))

ENTITY = re.compile(r"&(?:#[0-9]{1,7};|#[xX][0-9a-fA-F]{1,6};|([A-Za-z][A-Za-z0-9]{1,31};))")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Tty(io.StringIO):
    """A text stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def rendered(text: str, width: int = 60) -> str:
    """Return the text on the screen for an answer, without styles."""
    console = formatters.console_on(Tty())
    console.width = width
    lines = Renderer(console, fold=False).render(sanitize(text))
    return "\n".join(plain_text(line) for line in lines)


def stream_output(
    pieces: Iterable[str], monkeypatch: pytest.MonkeyPatch, *, rows: int = 24, columns: int = 60
) -> str:
    """Return all output to a terminal while an answer arrives."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    monkeypatch.setenv("TERM", "xterm-256color")
    file = Tty()
    with formatters.markdown_stream(Console(None, file, file)) as stream:
        for piece in pieces:
            stream.add(piece)
    return file.getvalue()


def visible(source: str) -> list[str]:
    """Return the letters and digits of a source that must be on the screen."""

    def replacement(match: re.Match[str]) -> str:
        return match[0] if match[1] and match[1] not in html5 else ""

    return [character for character in ENTITY.sub(replacement, source) if character.isalnum()]


def is_subsequence(characters: list[str], text: str) -> bool:
    rest = iter(text)
    return all(character in rest for character in characters)


def too_few(expected: list[str], screen: str) -> list[str]:
    """Return the expected characters that are on the screen less often than expected."""
    return [letter for letter in set(expected) if expected.count(letter) > screen.count(letter)]


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


def random_answer(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return "".join(
            chr(rng.choice((rng.randrange(128), rng.randrange(0x3000)))) for _ in range(60)
        )
    return "".join(rng.choice((*LEAVES, " ", "\n")) for _ in range(rng.randrange(1, 40)))


def test_renderer_any_answer_shows_every_letter_and_digit() -> None:
    rng = random.Random(11)
    for number in range(ANSWERS):
        answer = random_answer(rng)
        width = rng.choice((80, 40, 24))
        screen = rendered(answer, width)
        # The cells of a table are side by side: there each letter is counted.
        expected = visible(sanitize(answer))
        if "|" in answer:
            missing = [
                letter for letter in set(expected) if expected.count(letter) > screen.count(letter)
            ]
            assert not missing, (number, answer, screen)
        else:
            assert is_subsequence(expected, screen), (number, answer, screen)
        assert sanitize(screen) == screen, (number, answer)
        assert screen.strip() or not sanitize(answer).strip(), (number, answer)


def test_markdown_stream_any_answer_prints_every_letter_and_digit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qacli.cli.markdown_stream.FRAMES_PER_SECOND", 1e9)
    monkeypatch.setattr("qacli.cli.markdown_stream.PAUSE_FACTOR", 0)
    rng = random.Random(12)
    for number in range(max(ANSWERS // 10, 30)):
        answer = random_answer(rng)
        size = rng.choice((1, 3, 20))
        pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
        rows = rng.choice((5, 24))
        out = stream_output(pieces, monkeypatch, rows=rows)
        screen = Screen(rows).show(out.replace("\n", "\r\n"))
        expected = visible(sanitize(answer))
        missing = [
            letter for letter in set(expected) if expected.count(letter) > screen.count(letter)
        ]
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
        ("__init__, a.__dict__, __all__", "__init__, a.__dict__, __all__"),
        ("2*3*4 and a**b**c", "2*3*4 and a**b**c"),
        ("un *important* **Haupt**wort, 这是**粗体**字", "un important Hauptwort, 这是粗体字"),
        ("*.py and **/*.js", "*.py and **/*.js"),
        (r"\\host\share, a\/b, \"x\", \*, \_", r"\\host\share, a\/b, \"x\", *, _"),
        ("1986. A year.\n\n2) x", "1986. A year.\n\n 2) x"),
        ("9. a\n10. b", " 9. a\n10. b"),
        ("- removed\n+ added", " • removed\n\n + added"),
        ("-", "-"),
        ("- +", "- +"),
        (">", ">"),
        ("- a\n\n- b\n- c\n\n  d", " • a\n\n • b\n • c\n\n   d"),
        ("```\n```", "─" * 40 + "\n" + "─" * 40),
        (">" * 70 + " deep", ">" * 60 + "\n" + ">" * 10 + " deep"),
    ],
)
def test_renderer_unsupported_markup_shows_its_source(answer: str, expected: str) -> None:
    assert rendered(answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (r"\(a*b*c_1\) and \[ x \\ y \]", r"\(a*b*c_1\) and \[ x \\ y \]"),
        ("$a*b*c$ is $$\\{x_i\\}$$", "$a*b*c$ is $$\\{x_i\\}$$"),
        ("\\[\n\\frac{a}{b} \\\\\nc\n\\]", "\\[\n\\frac{a}{b} \\\\\nc\n\\]"),
        ("It costs $5, not *$10*, or \\$3.", "It costs $5, not $10, or $3."),
        ("Open \\(*a*", "Open (a"),
    ],
)
def test_renderer_formula_is_shown_as_its_source(answer: str, expected: str) -> None:
    assert rendered(answer) == expected


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    "answer",
    [
        "```\n```\nafter",
        "```md\n# A\n```python\nx = 1\n```\nmore\n```\n",
        "".join(f"{n}. item\n   - sub {n}\n\n" for n in range(1, 25)),
        "".join(f"{n}. item **{n}**\n" for n in range(95, 125)),
        "".join(f"- item {n}\n" for n in range(30)) + "\n- loose\n- tight\n\nEnd.",
        (
            "````md\n~~~\nx\n~~~\n````\n- a\n  ```sh\n  ls\n  ```\n- b\n\n"
            "| a | b |\n|---|---|\n| 1 | 2 |"
        ),
    ],
)
def test_markdown_stream_answer_in_pieces_looks_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, answer: str, size: int, width: int
) -> None:
    monkeypatch.setattr("qacli.cli.markdown_stream.FRAMES_PER_SECOND", 1e9)
    monkeypatch.setattr("qacli.cli.markdown_stream.PAUSE_FACTOR", 0)
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    out = stream_output(pieces, monkeypatch, columns=width)
    screen = Screen(24).show(out.replace("\n", "\r\n"))
    assert screen.rstrip() == rendered(answer, width)


def test_renderer_slow_answers_show_every_letter_and_digit() -> None:
    for number, text in enumerate(answers(60, seed=3)):
        answer = sanitize(text[: 2_000 if number % 2 else 500])
        screen = rendered(answer, 40)
        missing = too_few(visible(answer), screen)
        assert not missing, (number, answer)


def test_renderer_many_open_formulas_take_linear_time() -> None:
    answer = r"\(a" * 20_000 + "$a " * 20_000
    started = time.process_time()
    assert rendered(answer, 80).count("a") == 40_000
    assert time.process_time() - started < 20


def test_renderer_table_wider_than_the_screen_is_folded() -> None:
    long = "x" * 100
    screen = rendered(f"| a | b |\n|---|---|\n| {long} | {long} |", 40)
    assert screen.count("x") == 200
    assert "…" not in screen
    assert max(map(len, screen.split("\n"))) <= 40


def test_renderer_code_starts_at_the_left_edge_between_rules() -> None:
    code = "if x:\n    y = " + "z" * 100
    lines = rendered(f"```python title=a\n{code}\n```").split("\n")
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
def test_markdown_stream_tall_block_takes_linear_time(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [answer[at : at + 4] for at in range(0, len(answer), 4)]
    started = time.process_time()
    out = stream_output(pieces, monkeypatch)
    # 600 lines of code took 11 s before.
    assert time.process_time() - started < 5
    assert len(out) < 40 * len(answer)


def test_markdown_stream_tall_code_scrolls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qacli.cli.markdown_stream.FRAMES_PER_SECOND", 1e9)
    monkeypatch.setattr("qacli.cli.markdown_stream.PAUSE_FACTOR", 0)
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


def test_qa_ask_answer_on_a_terminal_keeps_angle_brackets(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    from fake_provider import Reply

    provider.script(Reply(text="Use std::vector<int>, then git clone <url>"))
    seen = console(invoke, "ask", "x", columns=40, NO_COLOR="1")
    assert seen.screen.split() == ["Use", "std::vector<int>,", "then", "git", "clone", "<url>"]
    assert console(invoke, "show", "last").screen.rstrip().endswith("git clone <url>")
