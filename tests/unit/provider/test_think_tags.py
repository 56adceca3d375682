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
    ("[THINK]so[/THINK]hello", "so", "hello"),
    ("[THINK]a</think>[/THI[/THINK]\n\nhello", "a</think>[/THI", "hello"),
    ("[THINKING] about it", "", "[THINKING] about it"),
    ("◁think▷so◁/think▷hello", "so", "hello"),
    ("<seed:think>so</seed:think>hello", "so", "hello"),
    ("<seed:thinking", "", "<seed:thinking"),
    ("<|channel>thought\nso<channel|>hello", "\nso", "hello"),
    ("<|channel>thought\n<channel|>hello", "\n", "hello"),
    ("<|channel>x", "", "<|channel>x"),
    ("hello\n</think>\nyou", "", "hello\n</think>\nyou"),
    ("\n</think>\n\nhello</think>", "", "hello</think>"),
    ("</thinker>", "", "</thinker>"),
    ("<think><think>so</think>\n</think>hello</think>", "<think>so", "hello</think>"),
    ("<think>so</think></thinker", "so", "</thinker"),
    ("<think>so</think></thin", "so", "</thin"),
    ("<reasoning>so</reasoning>hello", "so", "hello"),
    ("<thinking>so</thinking>\nhello", "so", "hello"),
]

ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>"
CALL = "<|start|>assistant<|channel|>commentary to=functions.f"
CHANNELS = [
    (f"{ANALYSIS}so<|end|>{FINAL}hello", "so", "hello"),
    (f"{ANALYSIS}so<|end|>\n{FINAL}hello<|return|>", "so", "hello"),
    (f"<|start|>assistant{ANALYSIS}so<|end|>{FINAL}hello<|return|>\n", "so", "hello"),
    (f"{ANALYSIS}a<|end|><|start|>assistant{ANALYSIS}b<|end|>{FINAL}c", "ab", "c"),
    (f"{FINAL}hello < there <|en", "", "hello < there <|en"),
    (f"{FINAL}hello<|return|>more", "", "hellomore"),
    ("<|start|>assistant<|channel|>final <|constrain|>JSON<|message|>{}", "", "{}"),
    (
        f"{ANALYSIS}a<|end|>{CALL} <|constrain|>json<|message|>{{}}<|call|>",
        "a{}",
        "",
    ),
    (f"{ANALYSIS}cut off", "cut off", ""),
    (f"{ANALYSIS}so<|end|><|start|>assistant<|chan", "so", ""),
    ("<|channel|>final is a marker", "", "<|channel|>final is a marker"),
    ("<|channel|>x", "", "<|channel|>x"),
    ("the <|channel|>final<|message|>x", "", "the <|channel|>final<|message|>x"),
]
TEXTS += CHANNELS

OPEN_TEXTS = [
    ("so\n</think>\n\nhello", "so\n", "hello"),
    ("</think>\n\nhello", "", "hello"),
    ("<think>so</think>hello", "so", "hello"),
    ("so </thin</think>a</think>b", "so </thin", "a</think>b"),
    (" hello </thin", "", " hello </thin"),
    ("", "", ""),
]


@pytest.mark.parametrize(("text", "reasoning", "answer"), TEXTS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_splitter_pieces_of_any_size_give_the_same_texts(
    text: str, reasoning: str, answer: str, size: int
) -> None:
    assert split(ThinkTagSplitter(), text, size) == (reasoning, answer)


@pytest.mark.parametrize(("text", "reasoning", "answer"), OPEN_TEXTS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_splitter_text_that_starts_open_is_reasoning_only_with_a_tag(
    text: str, reasoning: str, answer: str, size: int
) -> None:
    assert split(ThinkTagSplitter(starts_open=True), text, size) == (reasoning, answer)


def split(splitter: ThinkTagSplitter, text: str, size: int) -> tuple[str, str]:
    pairs = [splitter.feed(text[start : start + size]) for start in range(0, len(text), size)]
    has_no_tag = splitter.has_no_tag
    reasoning, answer = splitter.close()
    before = "" if has_no_tag else "".join(pair[0] for pair in pairs)
    return before + reasoning, "".join(pair[1] for pair in pairs) + answer
