"""Server-sent events by the rules of the HTML standard, in pieces of any size."""

import pytest

from qacli.provider.sse import EventParser, ServerSentEvent

STREAMS = [
    (b"data: a\n\ndata: b\n\n", [("message", "a"), ("message", "b")]),
    (b"data:a\n\n", [("message", "a")]),
    (b"data:  a\n\n", [("message", " a")]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", "a"), ("message", "b")]),
    (b"data: a\r\rdata: b\r\r", [("message", "a"), ("message", "b")]),
    (b"data: one\ndata: two\n\n", [("message", "one\ntwo")]),
    (b"data\n\n", [("message", "")]),
    (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
    (b": keep-alive\n\ndata: a\n\n", [("message", "a")]),
    (b"retry: 3000\n\nid: 7\n\ndata: a\n\n", [("message", "a")]),
    (b'event: ping\ndata: {}\n\ndata: "\xc3\xa9"\n\n', [("ping", "{}"), ("message", '"\u00e9"')]),
    (b"event: ping\n\ndata: a\n\n", [("message", "a")]),
    (b"unknown: x\ndata: a\n\n", [("message", "a")]),
    (b"data: a", [("message", "a")]),
    (b"data: a\n", [("message", "a")]),
    (b"\n\n\n", []),
    (b"", []),
    # Not in the standard: errors of older llama.cpp, and of gateways after their first comment.
    (b'error: {"code":400}\n\n', [("error", '{"code":400}')]),
    (b': x\n\n{"error": "m"}', [("message", '{"error": "m"}')]),
    (b'data: a\n\n{"error": "m"}\n', [("message", "a"), ("message", '{"error": "m"}')]),
    (b': x\n\n{\n  "error": {\n    "a": 1\n  }\n}\n', ['{\n  "error": {\n    "a": 1\n  }\n}']),
    (b'data: a\n\n[{\n "b": 1\n}\n]\n', ["a", '[{\n "b": 1\n}\n]']),
    (b'data: a\n\n[\n{"b": 1}\n]\n: x\n\n', ["a", '[\n{"b": 1}\n]']),
    (b'{"a": 1}\n: x\ndata: {}\n\n', ['{"a": 1}', "{}"]),
    (b"data: {}\n\n[DONE]\n", ["{}", "[DONE]"]),
    (b"[x] y\n data: a\n\n", []),
    (b"data: \xff\n\n", [("message", "\ufffd")]),
    # Not in the standard: events that one line end divides, and a JSON object in each line.
    (b'data: {"a": 1}\ndata: {}\ndata: [DONE]\n', ['{"a": 1}', "{}", "[DONE]"]),
    (b'{"a": 1}\r\n{}\r\n', ['{"a": 1}', "{}"]),
    (b"event: a\ndata: {}\nevent: b\ndata: {}\n", [("a", "{}"), ("b", "{}")]),
    (b"data: {}\nevent: b\n\n", [("b", "{}")]),
    (b'data: {"a":\ndata: {}\ndata: }\n\n', ['{"a":\n{}\n}']),
]


@pytest.mark.parametrize(("stream", "expected"), STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_event_parser_pieces_of_any_size_give_the_same_events(
    stream: bytes, expected: list[tuple[str, str] | str], size: int
) -> None:
    parser = EventParser()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    events = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.close()
    pairs = [("message", event) if isinstance(event, str) else event for event in expected]
    assert events == [ServerSentEvent(*pair) for pair in pairs]
