"""The tag that some models write around their reasoning."""

import pytest

from qacli.provider.think_tags import ThinkTagSplitter

TEXTS = [
    ("<think>so</think>hello", "so", "hello"),
    ("\n<think>\nso\n</think>\n\nhello", "\nso\n", "hello"),
    ("<thought>so</thought>hello", "so", "hello"),
    ("<thought>a</think>b</thought>c", "a</think>b", "c"),
    ("hello", "", "hello"),
    ("  hello", "", "  hello"),
    ("<thin", "", "<thin"),
    ("<thinking is hard", "", "<thinking is hard"),
    ("a <think>b</think> c", "", "a <think>b</think> c"),
    ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
    ("<think>never closed </thin", "never closed </thin", ""),
    ("<think></think>", "", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("text", "reasoning", "answer"), TEXTS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_splitter_pieces_of_any_size_give_the_same_texts(
    text: str, reasoning: str, answer: str, size: int
) -> None:
    splitter = ThinkTagSplitter()
    pairs = [splitter.feed(text[start : start + size]) for start in range(0, len(text), size)]
    pairs.append(splitter.close())
    assert "".join(pair[0] for pair in pairs) == reasoning
    assert "".join(pair[1] for pair in pairs) == answer
