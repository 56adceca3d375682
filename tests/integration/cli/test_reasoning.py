"""Reasoning, sources and the finish reason are shown apart from the answer."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

from qacli.cli.formatters import source_lines
from qacli.cli.status_line import latest_words
from qacli.cli.text_width import cell_width

from .conftest import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Invoke, Records

THOUGHT = "First thought.\n\nSecond thought."
REPLY = Reply(reasoning=THOUGHT, text="I am **qa**.")
DIM = "\x1b[2m"
HOSTILE = "\x1b]0;x\x07 \x1b[31mred \x9b2J \x08 \u202etxt"


@pytest.fixture
def thinking(provider: FakeProvider) -> FakeProvider:
    """A provider whose model reasons before each answer."""
    provider.default = REPLY
    return provider


thinks = pytest.mark.usefixtures("thinking")


@thinks
def test_ask_on_a_terminal_folds_reasoning_to_one_line(
    invoke: Invoke, console: Callable[..., Any]
) -> None:
    seen = console(invoke, "ask", "Who?")
    assert seen.screen.strip() == "I am qa."
    assert re.search(r"\x1b\[2m. test-model \d+ s  First", seen.err)
    assert "4 tokens; qa show 1 --show-reasoning shows it." in seen.err
    # At the end the line is cleared.
    assert "thought" not in Screen(seen.rows).show(seen.err)
    assert "thought" not in seen.out


@thinks
def test_ask_show_reasoning_on_a_terminal_keeps_it_above_the_answer(
    invoke: Invoke, console: Callable[..., Any]
) -> None:
    seen = console(invoke, "ask", "--show-reasoning", "Who?")
    assert seen.screen.strip() == f"{THOUGHT}\n\nI am qa."
    assert f"{DIM}Second thought." in seen.out
    assert "Thought" not in seen.err


@pytest.mark.parametrize("reasoning", ["a\n", "a\n\nb\n\n", "\na", "word " * 500, "line\n" * 60])
def test_ask_with_show_reasoning_of_any_form_keeps_all_of_it(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any], reasoning: str
) -> None:
    provider.default = Reply(reasoning=reasoning, text="Answer.")
    seen = console(invoke, "ask", "--no-save", "Who?", QA_SHOW_REASONING="true")
    above, _, below = seen.screen.rstrip().rpartition("\n\n")
    assert above.split() == reasoning.split()
    assert below == "Answer."


@pytest.mark.parametrize("options", [[], ["--raw"], ["--no-stream"]])
def test_ask_without_a_terminal_prints_the_answer_only(
    invoke: Invoke, thinking: FakeProvider, options: list[str]
) -> None:
    thinking.default = Reply(reasoning=THOUGHT, text="Yes.", citation="https://a.example/")
    done = invoke("ask", *options, "Who?")
    assert (done.out, done.err) == ("Yes.\n", "")
    done = invoke("ask", "--show-reasoning", *options, "Who?")
    assert (done.out, done.err) == ("Yes.\n", f"{THOUGHT}\n\n")
    done = invoke("ask", "--show-reasoning", "--quiet", *options, "Who?")
    assert (done.out, done.err) == ("Yes.\n", "")


def test_ask_with_a_schema_never_checks_reasoning(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    provider.default = Reply(reasoning='{"name": "wrong"} {', text='{"name": "Bo"}')
    done = invoke("ask", "--schema", "name", "--show-reasoning", "Who?")
    assert (done.code, done.out) == (0, '{"name": "Bo"}\n')
    assert done.err == '{"name": "wrong"} {\n\n'
    assert len(provider.requests) == 1
    (record,) = records()
    assert (record["answer"], record["reasoning"]) == ('{"name": "Bo"}', '{"name": "wrong"} {')


@thinks
def test_ask_json_has_reasoning_in_the_record_only(invoke: Invoke) -> None:
    done = invoke("ask", "--json", "--show-reasoning", "Who?")
    assert json.loads(done.out)["reasoning"] == THOUGHT
    assert json.loads(done.out)["answer"] == "I am **qa**."
    assert done.err == ""


@pytest.mark.parametrize("options", [[], ["--show-reasoning"], ["--show-reasoning", "--raw"]])
def test_ask_with_hostile_reasoning_leaves_the_terminal_alone(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any], options: list[str]
) -> None:
    provider.default = Reply(
        reasoning=f"Hm {HOSTILE} so", text="Yes.", citation=f"https://a/{HOSTILE}"
    )
    asked = console(invoke, "ask", *options, "Who?")
    seen = console(invoke, "show", "last", *(option for option in options if option != "--raw"))
    for text in (asked.out, asked.err, seen.out, seen.err):
        for evil in ("\x1b]", "\x07", "\x1b[31m", "\x9b", "\x08", "\u202e"):
            assert evil not in text


def test_ask_failed_while_reasoning_shows_only_the_error(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any], records: Records
) -> None:
    provider.default = Reply(reasoning="one two three", cut=2)
    seen = console(invoke, "ask", "Who?")
    assert seen.code == 6
    assert seen.screen.strip() == ""
    assert "qa show 1 --show-reasoning" in seen.err
    assert records()[0]["reasoning"] == "one two"


def test_ask_reused_answer_shows_the_same_reasoning_and_sources(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.default = Reply(reasoning=THOUGHT, text="Yes.", citation="https://a.example/")
    options = ("ask", "--reuse", "--show-reasoning", "Who?")
    first, second = (console(invoke, *options).screen for _ in range(2))
    assert second == first
    assert len(provider.requests) == 1


def test_sources_on_a_terminal_are_numbered_below_the_answer(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.default = Reply(text="Yes.", citation="https://a.example/x")
    asked = console(invoke, "ask", "Who?")
    assert asked.screen.strip() == "Yes.\n\n[1] A cited page  https://a.example/x"
    shown = console(invoke, "show", "last").screen.strip()
    assert shown.endswith("Yes.\n\n[1] A cited page  https://a.example/x")
    assert invoke("show", "last").out.endswith("Yes.\n\n[1] A cited page  https://a.example/x\n")


def test_source_lines_of_images_are_one_line_each() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 4000}"}}
    assert source_lines({"images": [image, {"image_url": {"url": "https://a.example/i"}}]}) == [
        "Image 1: image/png, 3 kB, in the field `details` of the record",
        "Image 2: https://a.example/i",
    ]


@thinks
def test_show_folds_reasoning_without_show_reasoning(
    invoke: Invoke, console: Callable[..., Any]
) -> None:
    invoke("ask", "Who?")
    assert (
        "Who?\n\nReasoning: 4 tokens; --show-reasoning shows it.\n\nI am" in invoke("show", "1").out
    )
    assert f"Who?\n\n{THOUGHT}\n\nI am" in invoke("show", "1", "--show-reasoning").out
    seen = console(invoke, "show", "1", QA_SHOW_REASONING="1")
    assert f"{DIM}Second thought." in seen.out
    seen = console(invoke, "show", "1", QA_SHOW_REASONING="false")
    assert f"{DIM}Reasoning: 4 tokens" in seen.out


@pytest.mark.parametrize(
    ("reply", "notice"),
    [
        (Reply(text="hel", finish_reason="content_filter"), "content filter cut the answer off."),
        (Reply(text="hel", finish_reason="length"), "cut at the token limit"),
        (Reply(refusal="I will not."), "The model refused to answer the question."),
    ],
)
@pytest.mark.parametrize("option", ["--raw", "--no-stream"])
def test_ask_unusual_finish_reason_is_noted_once(
    invoke: Invoke, provider: FakeProvider, reply: Reply, notice: str, option: str
) -> None:
    provider.default = reply
    done = invoke("ask", option, "Who?")
    assert (done.code, done.out) == (0, f"{reply.refusal or 'hel'}\n")
    assert done.err.count(notice) == 1
    assert len(done.err.splitlines()) == 1


def test_chat_with_show_reasoning_prints_it_apart(invoke: Invoke, thinking: FakeProvider) -> None:
    done = invoke("chat", "--show-reasoning", input="Who?\nAnd?\n")
    assert done.out == "I am **qa**.\n" * 2
    assert done.err == f"{THOUGHT}\n\n" * 2
    assert "thought" not in str(thinking.requests[-1].body)
    assert invoke("chat", input="Who?\n").err == ""


@pytest.mark.parametrize("text", ["", "a", "word " * 400, "漢字" * 300, "x" * 1000, "a\nb\n"])
def test_latest_words_fit_the_width_and_end_with_the_newest(text: str) -> None:
    for width in (20, 41, 80):
        line = latest_words(text, width, "x 1 s  ")
        assert cell_width(line) <= width
        assert "\n" not in line
        assert line.endswith(" ".join(text.split())[-3:])
