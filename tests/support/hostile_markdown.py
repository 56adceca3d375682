"""Hostile answers that are slow to render; a seed always gives the same ones."""

import random
from collections.abc import Iterator

from pygments.lexers import get_all_lexers

LANGUAGES = sorted(aliases[0] for _, aliases, _, _ in get_all_lexers() if aliases)
"""A name of each lexer of Pygments."""

MAX_CHARACTERS = 100_000

PUMPS = (
    *("*a_ ", "*a **a ", "a**b", "*a ", "*", "_", "_a__", "~~a", "*a_[b](c`d", "***a*"),
    *("[", "[]", "[a](", "![", "[a][", "[![a](", "[a](<b", '[a](b "', "](", "[a](http://b) "),
    *("`", "``a`", "` ", "&", "&amp;", "&#x41;", "&#9999999;", "\\*", "\\", "\\\n", "  \n"),
    *("<", "<a", "<a:b>", "<b>", "<!--", "<![CDATA[", "<?", "</", "<a@b", "a@b.c ", ":", "a:"),
    *("> ", "> a\n", ">", "- ", "- a\n", "1. ", "1. a\n", "+ - * ", "> - ", "***\n", "* * "),
    *("# a\n", "#", "a\n=\n", "=", "-", "---\n", "    a\n", "\t", "\n", " ", "a\n", "> a\na\n"),
    *("[a]: b\n", "[a]: b (\n", '[a]: b "\n', "[a]: <", "[a\n", "[a]:\n", "[a]: b 'c'\n"),
    *("```\n", "~~~a\n```\n", "```a\n", "~", "|", "|a\n", "a|b\n", "-|-\n", "|a|\n|-|\n", "||"),
    *("http://a.", "http://a. ", "http://", "http://a.http://a.", "https://a/(", "https://a/)"),
    *("mailto:", "mailto:a@", "mailto:a@b ", "www.", "//a.b ", "http://\u00e9\u4e00.", "http:"),
    *("\0", "\r", "\r\n", "\r\n\r\n", "\u202e\u2066", "\u200b", "\ufeff", "\U0001f600", "e\u0301"),
    *(
        '"',
        "'",
        '""""',
        "'''",
        "/*",
        "*/",
        "//",
        "{",
        "}",
        "({[",
        ")]}",
        "a ",
        "A",
        "1",
        "1e",
        "0x",
    ),
    *(
        "a<",
        "a,",
        "a::",
        "a b ",
        "a\n ",
        "\n a",
        "if ",
        "x = ",
        "public ",
        "#if\n",
        "{{",
        "${",
        "#{",
    ),
)
"""Texts whose repetition is or was slow in a parser."""

OPENERS = (
    *(
        "",
        "",
        "a ",
        '"',
        "'",
        "`",
        '"""',
        "/*",
        "<!--",
        "<script>",
        "<?php ",
        "<<A\n",
        "(",
        "{",
        "[",
    ),
    *("> ", "- ", "# ", "| a | b |\n|---|---|\n", "[x]: http://a", "*", "![", "http://", "    "),
)


def answers(count: int, seed: int = 1) -> Iterator[str]:
    """Yield hostile answers, of all kinds in turn."""
    rng = random.Random(seed)
    kinds = (_code, _repeated, _mixed, _amplified, _code, _repeated)
    for number in range(count):
        text = kinds[number % len(kinds)](rng, number)[: MAX_CHARACTERS - 20]
        if rng.random() < 0.1:
            text = text.replace("\n", "\r\n")
        yield f"{text}\n\nlast{number}word"


def _length(rng: random.Random) -> int:
    return rng.choice((2_000, 8_000, 20_000, 50_000, MAX_CHARACTERS))


def _code(rng: random.Random, number: int) -> str:
    language = LANGUAGES[number // 3 % len(LANGUAGES)]
    blocks = []
    for _ in range(rng.choice((1, 1, 3, 20))):
        pump = rng.choice(PUMPS) + rng.choice(("", rng.choice(PUMPS)))
        code = rng.choice(OPENERS) + pump * (_length(rng) // len(pump))
        blocks.append(f"~~~~~~{language}\n{code}\n~~~~~~\n")
    return "\n".join(blocks)


def _repeated(rng: random.Random, _number: int) -> str:
    pump = rng.choice(PUMPS)
    return rng.choice(OPENERS) + pump * (_length(rng) // len(pump))


def _mixed(rng: random.Random, _number: int) -> str:
    size = _length(rng)
    pumps = rng.sample(PUMPS, rng.choice((2, 3, 8, 40)))
    text: list[str] = []
    while size > 0:
        text.append(rng.choice(pumps) * rng.choice((1, 1, 1, 50)))
        size -= len(text[-1])
    return "".join(text)


def _amplified(rng: random.Random, _number: int) -> str:
    """Return a text whose HTML is much longer or deeper than itself."""
    size = _length(rng)
    match rng.randrange(6):
        case 0:
            return f"[a]: http://{'b' * (size // 2)}\n\n" + "[a]" * (size // 6)
        case 1:
            return f'[a]: http://b "{"c" * 1_000}"\n\n' + "![a]" * (size // 4)
        case 2:
            cells = size // 8
            return "|a" * cells + "|\n" + "|-" * cells + "|\n" + "|\n" * (size // 2)
        case 3:
            return "".join(" " * (2 * n) + "- a\n" for n in range(int(size**0.5)))
        case 4:
            return "*a " * (size // 6) + "a* " * (size // 6)
        case _:
            return "\n".join(">" * (n % 60) + " a" for n in range(size // 30))
