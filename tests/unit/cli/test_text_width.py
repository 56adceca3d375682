"""Text in terminal cells: broken between words."""

import pytest

from qacli.cli.text_width import wrap_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three", "one two\nthree"),
        ("exactly8 word", "exactly8\nword"),
        ("a https://example.org/x b", "a\nhttps://example.org/x\nb"),
        ("  in dented", "  in\n  dented"),
        ("one\n\ntwo", "one\n\ntwo"),
        ("漢字 漢字 x", "漢字\n漢字 x"),
        ("", ""),
    ],
)
def test_wrap_words_narrow_lines_break_between_words(text: str, expected: str) -> None:
    assert wrap_words(text, 8) == expected
