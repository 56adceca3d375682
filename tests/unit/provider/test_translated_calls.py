"""Tool calls of Chat Completions whose pieces come in turns, for a client of Responses."""

import json
from typing import Any

import pytest

from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.translation.response import ResponseTranslator
from qacli.provider.translation.responses_writer import ResponsesWriter

TURNS = [
    {"index": 0, "id": "t", "function": {"name": "f"}},
    {"index": 1, "id": "u", "function": {"name": "g", "arguments": "["}},
    {"index": 0, "function": {"arguments": "{"}},
    {"index": 1, "function": {"arguments": "]"}},
    {"index": 0, "function": {"arguments": "}"}},
]
SPLIT_NAME = [
    {"index": 0, "id": "t", "function": {"name": "get_"}},
    {"index": 0, "function": {"name": "time"}},
    {"index": 0, "function": {"arguments": "{}"}},
    {"index": 1, "id": "u", "function": {"name": "now"}},
]


def translate(pieces: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the events for the client, and the response in the last one."""
    writer = ResponsesWriter("resp_1", {}, 1, "m", key="k")
    translator = ResponseTranslator(ChatCompletions(), writer, is_streamed=True)
    chunks: list[dict[str, Any]] = [{"delta": {"tool_calls": [piece]}} for piece in pieces]
    chunks.insert(2, {"delta": {"content": "\n"}})
    chunks.append({"delta": {}, "finish_reason": "tool_calls"})
    data = b"".join(
        translator.feed(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        for choice in chunks
    )
    lines = (data + translator.close()).decode().splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    return events, events[-1]["response"]


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        (TURNS, [("t", "f", "{}"), ("u", "g", "[]")]),
        (SPLIT_NAME, [("t", "get_time", "{}"), ("u", "now", "")]),
    ],
)
def test_translated_calls_in_turns_are_one_item_each(
    pieces: list[dict[str, Any]], calls: list[tuple[str, str, str]]
) -> None:
    events, response = translate(pieces)
    items = [item for item in response["output"] if item["type"] == "function_call"]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in items] == calls
    assert all(item["status"] == "completed" for item in response["output"])
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    names = [item["name"] for item in added if item["type"] == "function_call"]
    assert names == [name for _, name, _ in calls]
    for item in items:
        deltas = [
            event["delta"]
            for event in events
            if event["type"] == "response.function_call_arguments.delta"
            and event["item_id"] == item["id"]
        ]
        assert "".join(deltas) == item["arguments"]
