"""Streams whose pieces each have the whole text so far."""

from __future__ import annotations

import pytest

from qacli.domain import Delta
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.response import ChatResponse
from qacli.provider.think_tags import ThinkTagSplitter

WHOLE = [
    "The",
    "The answer is 42 and",
    "The answer is 42 and no more",
    "The answer is 42 and no more.",
]


def read(pieces: list[str]) -> tuple[ChatResponse, list[str]]:
    """Return the response after these pieces, and the texts that were shown."""
    response = ChatResponse(think_tags=ThinkTagSplitter())
    api, shown = ChatCompletions(), []
    for piece in pieces:
        event = {"choices": [{"index": 0, "delta": {"content": piece}}]}
        events = api.read_event("message", event, response)
        shown += [event.text for event in events if isinstance(event, Delta)]
    response.close()
    return response, shown


def test_stream_of_whole_texts_is_recorded_once() -> None:
    response, shown = read(WHOLE)
    assert response.text == WHOLE[-1]
    assert shown[2:] == [" no more", "."]


def test_stream_of_whole_texts_may_repeat_one_and_end_in_a_piece() -> None:
    response, _ = read([*WHOLE, WHOLE[-1], WHOLE[1], " Bye!"])
    assert response.text == WHOLE[-1] + " Bye!"


def test_reasoning_of_whole_texts_is_recorded_once() -> None:
    response = ChatResponse()
    for piece in WHOLE:
        event = {"choices": [{"index": 0, "delta": {"reasoning_content": piece}}]}
        ChatCompletions().read_event("message", event, response)
    assert "".join(response.reasoning_texts) == WHOLE[-1]


@pytest.mark.parametrize(
    "pieces",
    [
        ["a", "ab", "abc", "abcd"],
        ["ha", "ha", "haha", "hahaha hahaha hahaha", "hahaha hahaha hahaha hahaha"],
        [" " * 4, " " * 30, " " * 40, "x"],
        ["The answer is 42 and", "The answer is 42 and", "The answer is 42 and more"],
        ["x", "The answer is 42 and", "The answer is 42 and more", "The answer is 42 and more."],
        ["The answer is 42", "The answer is 42 and more."],
    ],
    ids=["short", "laughter", "blanks", "equal", "other-start", "two"],
)
def test_stream_of_pieces_that_repeat_themselves_is_kept(pieces: list[str]) -> None:
    response, shown = read(pieces)
    assert response.text == "".join(shown) == "".join(pieces)


def test_response_reset_forgets_the_pieces() -> None:
    response, _ = read(WHOLE)
    response.reset()
    event = {"choices": [{"index": 0, "delta": {"content": WHOLE[-1]}}]}
    ChatCompletions().read_event("message", event, response)
    assert response.text == WHOLE[-1]
