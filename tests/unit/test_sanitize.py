from __future__ import annotations

import io
import json
import random
import unicodedata

import pytest

from qacli.sanitize import escape_json, one_line, sanitize, sanitized


class Tty(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "character",
    [
        *(chr(code) for code in (*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0))),
        *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
        *"\u00ad\u200b\u2028\u2029\u2060\u2063\u3164\ufeff\U000e0001\U000e0041",
    ],
    ids=ascii,
)
def test_sanitize_character_that_deceives_is_replaced(character: str) -> None:
    assert sanitize(f"a{character}b") == "a\ufffdb"
    assert json.loads(escape_json(f'"a{character}b"'), strict=False) == f"a{character}b"


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\nc",
        "👨\u200d👩\u200d👧 ❤\ufe0f 1\ufe0f\u20e3 👍🏽",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "می\u200cخواهم क्\u200dष",  # noqa: RUF001 - Persian and Devanagari
        "naïve 漢字 e\u0301",
    ],
    ids=ascii,
)
def test_sanitize_text_that_needs_its_joiners_is_kept(text: str) -> None:
    assert sanitize(text) == text
    assert escape_json(text) == text


@pytest.mark.parametrize("text", ["a\u200db", "a\u200cb", "a\ufe0f", "☝\ufe0f\ufe0e", "漢\u200da"])
def test_sanitize_joiner_or_selector_without_use_is_replaced(text: str) -> None:
    assert "\ufffd" in sanitize(text)


def test_sanitize_carriage_return_is_removed() -> None:
    assert sanitize("one\r\ntwo\rthree") == "one\ntwothree"


def test_sanitize_any_text_leaves_no_control_or_format_character() -> None:
    dice = random.Random(3)
    for _ in range(200):
        text = "".join(chr(dice.randrange(0x3100)) for _ in range(100))
        for each in sanitize(text):
            assert unicodedata.category(each) != "Cc" or each in "\t\n"
        assert sanitize(sanitize(text)) == sanitize(text)


def test_escape_json_ascii_only_is_the_same_json() -> None:
    value = {"a": "é漢👍\u202e\ud800", "b": ["\x7f"]}
    text = escape_json(json.dumps(value, ensure_ascii=False), ascii_only=True)
    assert text.isascii()
    assert json.loads(text) == value


def test_one_line_newline_and_escape_are_escaped() -> None:
    assert one_line("é\n\x1b[2J\u202e") == r"é\n\x1b[2J\u202e"


def test_sanitized_terminal_cleans_output_and_keeps_own_sequences() -> None:
    file = Tty()
    stream = sanitized(file)
    assert sanitized(stream) is stream
    stream.write("a")
    stream.write("\u200db\x1b[31m")
    stream.buffer.write("ü\x9b".encode()[:1])
    stream.buffer.write("ü\x9b".encode()[1:])
    assert file.getvalue() == "a\ufffdb\ufffd[31mü\ufffd"


def test_sanitized_pipe_is_the_pipe() -> None:
    file = io.StringIO()
    assert sanitized(file) is file
