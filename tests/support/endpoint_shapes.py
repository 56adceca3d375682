"""The shapes of answers and errors that endpoints are known to send."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from wire_server import EVENTS, JSON, Answer

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
ALL_USAGE = {
    **USAGE,
    "prompt_tokens_details": {"cached_tokens": 90},
    "completion_tokens_details": {"reasoning_tokens": 7},
    "cost": 0.0123,
}
XAI_USAGE = {
    "prompt_tokens": 32,
    "completion_tokens": 9,
    "total_tokens": 135,
    "completion_tokens_details": {"reasoning_tokens": 94},
}
BYOK_USAGE = {
    **USAGE,
    "cost": 0,
    "is_byok": True,
    "cost_details": {"upstream_inference_cost": 0.036},
}
TEXT_USAGE = {"prompt_tokens": "100", "completion_tokens": "20", "cost": "0.5"}
CITATION = {"type": "url_citation", "url_citation": {"url": "https://e.org", "title": "E"}}
TOOL_CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return "data: " + json.dumps({"id": "c", "model": "m-1", "choices": [choice], **fields})


def only(**choice: Any) -> str:
    """Return a chunk with this choice."""
    return "data: " + json.dumps({"id": "c", "model": "m-1", "choices": [{"index": 0, **choice}]})


def stream(*events: str, done: bool = True, end: str = "\n\n") -> Answer:
    texts = [*events, *(["data: [DONE]"] if done else [])]
    return 200, {"content-type": EVENTS}, "".join(text + end for text in texts).encode()


def whole(message: dict[str, Any], finish: str | None = "stop", **fields: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return document({"id": "c", "model": "m-1", "choices": [choice], **fields})


def document(body: object, status: int = 200) -> Answer:
    return status, {"content-type": JSON}, json.dumps(body).encode()


@dataclass(frozen=True)
class Shape:
    """The response of an endpoint, streamed and whole, and the expected record."""

    name: str
    streamed: Answer
    whole: Answer
    record: dict[str, Any] = field(default_factory=dict)


def message_shape(name: str, message: dict[str, Any], finish: str = "stop", **record: Any) -> Shape:
    """Return the shape of a message that is sent in one chunk, or whole."""
    streamed = stream(chunk(message), chunk({}, finish))
    return Shape(name, streamed, whole(message, finish), record)


START = chunk({"role": "assistant", "content": ""})
HELLO, STOP = chunk({"content": "hello"}), chunk({}, "stop")
WHOLE = whole({"content": "hello"})
PIECES = chunk({"content": "hel"}), chunk({"content": "lo"})

DATA = [line.removeprefix("data: ") for line in (START, *PIECES, STOP)]
LINES = 200, {"content-type": JSON}, "\n".join(DATA).encode()
ARRAY = 200, {"content-type": JSON}, f"[{','.join(DATA)}]".encode()
R1 = {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"}
M2 = {"model": "MiniMaxAI/MiniMax-M2.1"}
HARMONY = (
    "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>hello"
)

ANSWERS = [
    Shape("json-lines", LINES, WHOLE),
    Shape("json-array", ARRAY, ARRAY),
    Shape("single-line-ends", stream(START, *PIECES, STOP, end="\n"), WHOLE),
    Shape(
        "closing-tag-alone",
        stream(*(chunk({"content": text}, **R1) for text in ("so\n</thi", "nk>\n\nhello")), STOP),
        whole({"content": "so\n</think>\n\nhello"}, **R1),
        {"reasoning": "so"},
    ),
    Shape(
        "closing-tag-alone-of-minimax",
        stream(*(chunk({"content": text}, **M2) for text in ("so\n</thi", "nk>\n\nhello")), STOP),
        whole({"content": "so\n</think>\n\nhello"}, **M2),
        {"reasoning": "so"},
    ),
    Shape(
        "channel-of-gemma",
        stream(
            *(chunk({"content": text}) for text in ("<|chan", "nel>thought\nso<chan")),
            *(chunk({"content": "nel|>hello"}), STOP),
        ),
        whole({"content": "<|channel>thought\nso<channel|>hello"}),
        {"reasoning": "so"},
    ),
    Shape(
        "no-closing-tag",
        stream(*(chunk({"content": text}, **R1) for text in ("hel", "lo")), STOP),
        whole({"content": "hello"}, **R1),
        {"reasoning": None},
    ),
    Shape(
        "channels",
        stream(
            *(chunk({"content": text}) for text in (HARMONY[:13], HARMONY[13:50])),
            chunk({"content": HARMONY[50:]}),
            STOP,
        ),
        whole({"content": HARMONY}),
        {"reasoning": "so"},
    ),
    Shape("retry-field", stream("retry: 3000", START, HELLO, STOP), WHOLE),
    Shape("ping-event", stream(START, 'event: ping\ndata: {"type": "ping"}', HELLO, STOP), WHOLE),
    Shape("ping-data", stream('data: {"type": "ping"}', HELLO, STOP), WHOLE),
    Shape("comments", stream(": keep-alive", ": OPENROUTER PROCESSING", HELLO, STOP), WHOLE),
    Shape("no-space", stream(*(line.replace("data: ", "data:") for line in (HELLO, STOP))), WHOLE),
    Shape("crlf", stream(START, *PIECES, STOP, end="\r\n\r\n"), WHOLE),
    Shape("byte-order-mark", stream("\ufeff" + HELLO, STOP), WHOLE),
    Shape("text-as-sign-of-life", stream("event: ping\ndata: still here", HELLO, STOP), WHOLE),
    Shape("text-in-the-middle", stream("data: [PROCESSING]", "data: queued", HELLO, STOP), WHOLE),
    Shape("quoted-end", stream(HELLO, 'data: "[DONE]"', done=False), WHOLE),
    Shape("end-without-field", stream(HELLO, "[DONE]", done=False), WHOLE),
    Shape("event-in-an-event", stream("data: " + HELLO, "data: data: [DONE]", done=False), WHOLE),
    Shape(
        "raw-control-character",
        stream(HELLO.replace('"hello"', '"hello", "name": "\t"'), STOP),
        (200, {}, WHOLE[2].replace(b'"hello"', b'"hello", "name": "\t"')),
    ),
    Shape("no-finish-reason", stream(START, HELLO), whole({"content": "hello"}, None)),
    Shape("no-done", stream(HELLO, STOP, done=False), WHOLE),
    Shape(
        "empty-choices-first",
        stream(chunk({}, choices=[], prompt_filter_results=[]), HELLO, STOP),
        WHOLE,
    ),
    Shape(
        "other-choice",
        stream(chunk({}, choices=[{"index": 1, "delta": {"content": "OTHER"}}]), HELLO, STOP),
        WHOLE,
    ),
    Shape("null-chunks", stream("data: null", HELLO, "data:", STOP), WHOLE),
    Shape("null-delta", stream(only(delta=None, index="0"), HELLO, STOP), WHOLE),
    Shape("null-choices", stream(chunk({}, choices=None), HELLO, STOP), WHOLE),
    Shape("empty-finish-reason", stream(chunk({"content": "hello"}, ""), STOP), WHOLE),
    Shape(
        "only-choice-is-number-1",
        stream(*(only(index=1, delta={"content": text}) for text in ("hel", "lo"))),
        document({"choices": [{"index": 1, "message": {"content": "hello"}}]}),
        {"details": {}},
    ),
    Shape(
        "number-for-each-token",
        stream(*(only(index=n, delta={"content": t}) for n, t in ((1, "hel"), (2, "lo")))),
        WHOLE,
    ),
    Shape("finish-reason-first", stream(chunk({"content": "hel"}, "stop"), PIECES[1]), WHOLE),
    Shape(
        "message-beside-the-pieces",
        stream(
            only(delta={"content": "hel"}, message={"content": "hel"}),
            only(delta={"content": "lo"}, message={"content": "hello"}),
            only(delta={}, message={"content": "hello"}, finish_reason="stop"),
        ),
        WHOLE,
    ),
    Shape(
        "finish-reason-of-gemini",
        stream(only(delta={"content": "hello"}, finishReason="MAX_TOKENS"), done=False),
        whole({"content": "hello"}, "MAX_TOKENS"),
        {"finish_reason": "length", "details": {"native_finish_reason": "MAX_TOKENS"}},
    ),
    Shape(
        "answer-in-a-wrapper",
        stream(*(f'data: {{"result": {line}}}' for line in DATA)),
        document({"code": 200, "msg": "success", "data": json.loads(WHOLE[2])}),
    ),
    Shape("code-of-success", stream('data: {"code": 200, "msg": "success"}', HELLO, STOP), WHOLE),
    Shape("comment-then-a-document", (200, {}, b": processing\n\n" + WHOLE[2]), WHOLE),
    Shape("blank-lines-first", (200, {}, b"\n\n" + WHOLE[2]), (200, {}, b"\n\n" + WHOLE[2])),
    Shape("document-for-a-stream", WHOLE, WHOLE),
    Shape("stream-for-a-document", stream(HELLO, STOP), stream(HELLO, STOP)),
    Shape("no-content-type", (200, {}, stream(HELLO, STOP)[2]), (200, {}, WHOLE[2])),
    message_shape(
        "parts", {"content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}
    ),
    message_shape(
        "thinking-part",
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "so"}]},
                {"type": "text", "text": "hello"},
            ]
        },
        reasoning="so",
    ),
    message_shape(
        "reasoning-content", {"content": "hello", "reasoning_content": "so"}, reasoning="so"
    ),
    message_shape("reasoning", {"content": "hello", "reasoning": "so"}, reasoning="so"),
    Shape(
        "half-characters-of-reasoning",
        stream(*(only(delta={"reasoning": half}) for half in "\ud83d\ude00"), HELLO, STOP),
        whole({"content": "hello", "reasoning": "\ud83d\ude00"}),
        {"reasoning": "\U0001f600"},
    ),
    message_shape("think-tag", {"content": "<think>so</think>\n\nhello"}, reasoning="so"),
    message_shape("think-tag-of-mistral", {"content": "[THINK]so[/THINK]hello"}, reasoning="so"),
    message_shape(
        "reasoning-tag-of-bedrock", {"content": "<reasoning>so</reasoning>hello"}, reasoning="so"
    ),
    message_shape(
        "closing-tag-first",
        {"content": "\n</think>\n\nhello", "reasoning_content": "so"},
        reasoning="so",
    ),
    message_shape(
        "tag-in-a-tag",
        {"content": "<think>so<think>so</think></think>\n\nhello"},
        reasoning="so<think>so",
    ),
    Shape(
        "blocks-of-portkey",
        stream(chunk({"content_blocks": [{"index": 0, "delta": {"thinking": "so"}}]}), HELLO, STOP),
        whole({"content": "hello", "content_blocks": [{"type": "thinking", "thinking": "so"}]}),
        {"reasoning": "so"},
    ),
    Shape(
        "error-of-success",
        stream(chunk({"content": "hello"}, "stop", error={"code": 0, "message": ""})),
        whole({"content": "hello"}, error={"code": 0, "message": ""}),
    ),
    message_shape("thinking-tag", {"content": "<thinking>so</thinking>hello"}, reasoning="so"),
    message_shape("end-of-cohere", {"content": "hello"}, "COMPLETE"),
    Shape(
        "verdict-of-azure-without-delta",
        stream(only(content_filter_offsets={"check_offset": 0}), HELLO, STOP),
        whole({"content": "hello", "padding": "x"}),
    ),
    message_shape(
        "parts-of-other-apis",
        {"content": [{"type": "input_text", "text": "hel"}, {"type": "text_delta", "text": "lo"}]},
    ),
    Shape(
        "message-that-is-a-text",
        stream(HELLO, STOP),
        document({"choices": [{"message": "hello", "finish_reason": "stop"}]}),
    ),
    Shape(
        "choice-that-is-no-list",
        stream(chunk({}, choices={"delta": {"content": "hello"}, "finish_reason": "stop"})),
        document({"choices": {"message": {"content": "hello"}, "finish_reason": "stop"}}),
    ),
    Shape(
        "index-below-0",
        stream(only(index=-1, delta={"content": "hello"}, finish_reason="stop")),
        document({"choices": [{"index": -1, "message": {"content": "hello"}}]}),
    ),
    message_shape(
        "annotations",
        {"content": "hello", "annotations": [CITATION]},
        details={"annotations": [CITATION]},
    ),
    message_shape(
        "content-filter-after-text",
        {"content": "hello"},
        "content_filter",
        finish_reason="content_filter",
    ),
    message_shape(
        "text-and-tool-call", {"content": "hello", "tool_calls": [TOOL_CALL]}, "tool_calls"
    ),
    message_shape(
        "text-and-image", {"content": "hello", "images": [IMAGE]}, details={"images": [IMAGE]}
    ),
    message_shape("refusal", {"content": None, "refusal": "hello"}, details={"refusal": True}),
    Shape(
        "usage-details-and-cost",
        stream(HELLO, STOP, chunk({}, choices=[], usage=ALL_USAGE)),
        whole({"content": "hello"}, usage=ALL_USAGE),
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "cached_tokens": 90,
            "reasoning_tokens": 7,
            "cost_usd": 0.0123,
        },
    ),
    Shape(
        "usage-of-xai",
        stream(HELLO, STOP, chunk({}, choices=[], usage=XAI_USAGE)),
        whole({"content": "hello"}, usage=XAI_USAGE),
        {"prompt_tokens": 32, "completion_tokens": 103, "reasoning_tokens": 94},
    ),
    Shape(
        "usage-of-openrouter-with-own-key",
        stream(HELLO, STOP, chunk({}, choices=[], usage=BYOK_USAGE)),
        whole({"content": "hello"}, usage=BYOK_USAGE),
        {"prompt_tokens": 100, "completion_tokens": 20, "cost_usd": 0.036},
    ),
    Shape(
        "usage-of-groq",
        stream(HELLO, chunk({}, "stop", x_groq={"usage": USAGE})),
        whole({"content": "hello"}, x_groq={"usage": USAGE}),
        {"prompt_tokens": 100, "completion_tokens": 20},
    ),
    Shape(
        "usage-in-a-choice",
        stream(HELLO, only(delta={}, finish_reason="stop", usage=USAGE)),
        whole({"content": "hello"}, usage=USAGE),
        {"prompt_tokens": 100, "completion_tokens": 20},
    ),
    Shape(
        "usage-as-texts",
        stream(HELLO, chunk({}, "stop", usage=TEXT_USAGE)),
        whole({"content": "hello"}, usage=TEXT_USAGE),
        {"prompt_tokens": 100, "completion_tokens": 20, "cost_usd": 0.5},
    ),
    Shape(
        "usage-in-every-chunk",
        stream(
            chunk({"content": "hello"}, usage=USAGE),
            chunk({}, "stop", usage=USAGE),
            chunk({}, choices=[], usage=None),
        ),
        whole({"content": "hello"}, usage=USAGE),
        {"prompt_tokens": 100, "completion_tokens": 20},
    ),
]


HTTP_SHAPES = {
    *("retry-field", "no-finish-reason", "document-for-a-stream", "stream-for-a-document"),
    *("json-lines", "json-array", "single-line-ends", "closing-tag-alone", "no-closing-tag"),
    *("channels", "answer-in-a-wrapper", "usage-of-xai", "usage-of-openrouter-with-own-key"),
    *("thinking-part", "annotations", "refusal", "text-and-tool-call", "usage-details-and-cost"),
    *("content-filter-after-text", "finish-reason-of-gemini"),
}
"""The answers that are tested over HTTP, too; the others only test the parser."""
