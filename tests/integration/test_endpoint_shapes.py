"""The shapes of answers that endpoints are known to send, asked for in every way.

Each shape comes streamed and whole; a way takes the one that it asks for.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY, Invoke, migrated
from wire_server import EVENTS, JSON, Answer, WireRequest, WireServer

from qacli.cli.batch_runner import PART_FAILED
from qacli.config.settings import Settings
from qacli.web import state
from qacli.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
ALL_USAGE = {
    **USAGE,
    "prompt_tokens_details": {"cached_tokens": 90},
    "completion_tokens_details": {"reasoning_tokens": 7},
    "cost": 0.0123,
}
CITATION = {"type": "url_citation", "url_citation": {"url": "https://e.org", "title": "E"}}
TOOL_CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return "data: " + json.dumps({"id": "c", "model": "m-1", "choices": [choice], **fields})


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
    """What an endpoint sends, streamed and whole, and the record of it."""

    name: str
    streamed: Answer
    whole: Answer
    record: dict[str, Any] = field(default_factory=dict)


def message_shape(name: str, message: dict[str, Any], finish: str = "stop", **record: Any) -> Shape:
    """A message that comes in one chunk, or whole."""
    streamed = stream(chunk(message), chunk({}, finish))
    return Shape(name, streamed, whole(message, finish), record)


START = chunk({"role": "assistant", "content": ""})
HELLO, STOP = chunk({"content": "hello"}), chunk({}, "stop")
WHOLE = whole({"content": "hello"})
PIECES = chunk({"content": "hel"}), chunk({"content": "lo"})

ANSWERS = [
    Shape("retry-field", stream("retry: 3000", START, HELLO, STOP), WHOLE),
    Shape("ping-event", stream(START, 'event: ping\ndata: {"type": "ping"}', HELLO, STOP), WHOLE),
    Shape("ping-data", stream('data: {"type": "ping"}', HELLO, STOP), WHOLE),
    Shape("comments", stream(": keep-alive", ": OPENROUTER PROCESSING", HELLO, STOP), WHOLE),
    Shape("no-space", stream(*(line.replace("data: ", "data:") for line in (HELLO, STOP))), WHOLE),
    Shape("crlf", stream(START, *PIECES, STOP, end="\r\n\r\n"), WHOLE),
    Shape("byte-order-mark", stream("\ufeff" + HELLO, STOP), WHOLE),
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
    message_shape("think-tag", {"content": "<think>so</think>\n\nhello"}, reasoning="so"),
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
        "usage-of-groq",
        stream(HELLO, chunk({}, "stop", x_groq={"usage": USAGE})),
        whole({"content": "hello"}, x_groq={"usage": USAGE}),
        {"prompt_tokens": 100, "completion_tokens": 20},
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


@dataclass(frozen=True)
class Failure:
    """A response that is no answer, and its error.

    Attributes:
        exit_code: Of the command line.
        status: Of the response of `POST /ask`.
        text: A part of the error.
        answer: The part of the answer that is kept.
    """

    name: str
    streamed: Answer
    whole: Answer
    exit_code: int
    status: int
    text: str
    answer: str | None = None


def refusal(name: str, status: int, body: object, exit_code: int, http: int, text: str) -> Failure:
    """A response with an error status, the same for streams and documents."""
    if isinstance(body, str):
        answer = status, {"content-type": "text/plain"}, body.encode()
    else:
        answer = document(body, status)
    return Failure(name, answer, answer, exit_code, http, text)


def message_failure(name: str, message: dict[str, Any], finish: str, text: str) -> Failure:
    """A complete message that is no answer."""
    streamed = stream(chunk(message), chunk({}, finish))
    return Failure(name, streamed, whole(message, finish, usage=USAGE), 6, 502, text)


CUT = stream(START, chunk({"content": "hel"}), done=False)
PAGE = 200, {"content-type": "text/html"}, b"<!doctype html><title>Welcome</title>"
DEEP = 200, {"content-type": JSON}, b'{"choices": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
ERROR_LATER = stream(
    chunk({"content": "hel"}), 'data: {"error": {"message": "Overloaded.", "code": 502}}'
)

FAILURES = [
    Failure("cut", CUT, (200, {"content-type": JSON}, WHOLE[2][:40]), 6, 502, "", None),
    Failure("web-page", PAGE, PAGE, 6, 502, "web page"),
    Failure("deep-json", DEEP, DEEP, 6, 502, "nested too deeply"),
    Failure(
        "error-in-a-stream",
        ERROR_LATER,
        document({"error": {"message": "Overloaded.", "code": 502}}),
        6,
        503,
        "Overloaded",
    ),
    message_failure(
        "tool-call", {"content": None, "tool_calls": [TOOL_CALL]}, "tool_calls", "called a tool"
    ),
    message_failure("image-alone", {"content": "", "images": [IMAGE]}, "stop", "images"),
    message_failure("reasoning-alone", {"content": "", "reasoning": "so"}, "length", "token limit"),
    message_failure("filtered", {"content": ""}, "content_filter", "content filter"),
    refusal(
        "list",
        400,
        [{"error": {"code": 400, "message": "API key not valid."}}],
        5,
        502,
        "API key not valid",
    ),
    refusal("detail", 422, {"detail": "Bad model."}, 5, 502, "Bad model"),
    refusal(
        "detail-list",
        422,
        {"detail": [{"loc": ["body", "model"], "msg": "Field required"}]},
        5,
        502,
        "model: Field required",
    ),
    refusal("text", 400, "no such deployment", 5, 502, "no such deployment"),
    refusal("page", 404, "<html><title>Nothing</title></html>", 5, 502, "titled 'Nothing'"),
    refusal(
        "credits",
        402,
        {"error": {"message": "Insufficient credits.", "code": 402}},
        5,
        502,
        "Add credit",
    ),
    refusal(
        "quota",
        429,
        {"error": {"message": "Quota.", "type": "insufficient_quota"}},
        5,
        502,
        "Add credit",
    ),
    refusal(
        "context",
        400,
        {"error": {"message": "Too long.", "code": "context_length_exceeded"}},
        5,
        502,
        "Shorten the question",
    ),
    refusal("key", 401, {"error": {"message": "No."}}, 3, 502, "OPENAI_API_KEY"),
]


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with closing(WireServer()) as server:
        yield server


@pytest.fixture
def env(wire: WireServer) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"{wire.address}/v1",
        "QA_MODEL": "m-1",
        "QA_RETRIES": "2",
        "QA_TIMEOUT": "10",
    }


def play(wire: WireServer, shape: Shape | Failure) -> None:
    def answer(request: WireRequest) -> Answer:
        return shape.streamed if json.loads(request.body).get("stream") else shape.whole

    wire.answer = answer


NO_TEXT = {"tool-call", "image-alone", "reasoning-alone", "filtered"}
"""Complete answers without a text, which a client of `/v1` gets as they are."""


@dataclass
class Ask:
    """Asks in one of the ways; gives the exit code or HTTP status, the texts, and the record."""

    env: dict[str, str]
    home: Path

    def ask(self, *flags: str) -> tuple[int, str, str]:
        done = Invoke(self.env)("ask", "Who?", *flags)
        return done.code, done.out, done.err

    def whole(self) -> tuple[int, str, str]:
        return self.ask("--no-stream")

    def batch(self) -> tuple[int, str, str]:
        (self.home / "questions.txt").write_text("Who?\n")
        done = Invoke(self.env)("batch", "questions.txt", "--retries", "2")
        return done.code, "hello\n" if '"answer":"hello"' in done.out else done.out, done.err

    def serve(self) -> tuple[int, str, str]:
        return self._request("/ask", {"question": "Who?"})

    def serve_stream(self) -> tuple[int, str, str]:
        return self._request("/ask", {"question": "Who?", "stream": True})

    def door(self) -> tuple[int, str, str]:
        messages = [{"role": "user", "content": "Who?"}]
        return self._request("/v1/chat/completions", {"model": "m-1", "messages": messages})

    def door_stream(self) -> tuple[int, str, str]:
        messages = [{"role": "user", "content": "Who?"}]
        body = {"model": "m-1", "messages": messages, "stream": True}
        return self._request("/v1/chat/completions", body)

    def _request(self, path: str, body: object) -> tuple[int, str, str]:
        settings = Settings(
            api_key=KEY,
            base_url=self.env["OPENAI_BASE_URL"],
            model="m-1",
            data_dir=self.home / "data",
            retries=2,
            timeout=10,
        )
        migrated(settings).close()
        app = create_app(settings)
        try:
            response = app.test_client().post(path, json=body)
            return response.status_code, response.text, response.text
        finally:
            running: state.AppState = app.extensions[state.EXTENSION_KEY]
            running.all_records.close()

    def record(self) -> dict[str, Any]:
        [line] = Invoke(self.env)("list", "--format", "jsonl").out.splitlines()
        record: dict[str, Any] = json.loads(line)
        return record


COMMANDS = [Ask.ask, Ask.whole, Ask.batch]
REQUESTS = [Ask.serve, Ask.serve_stream, Ask.door, Ask.door_stream]
Way = "Callable[[Ask], tuple[int, str, str]]"


@pytest.mark.parametrize("way", [*COMMANDS, *REQUESTS], ids=lambda way: way.__name__)
@pytest.mark.parametrize("shape", ANSWERS, ids=lambda shape: shape.name)
def test_shape_of_an_answer_is_answered(
    wire: WireServer, env: dict[str, str], home: Path, shape: Shape, way: Way
) -> None:
    play(wire, shape)
    ask = Ask(env, home)
    code, out, _err = way(ask)
    assert code == (0 if way in COMMANDS else 200), out
    assert (out == "hello\n") if way in COMMANDS else ("hel" in out)
    record = ask.record()
    expected = {"answer": "hello", "status": "answered", "error": None, **shape.record}
    assert {name: record[name] for name in expected} == expected
    assert record["endpoint"] == wire.address.removeprefix("http://")
    assert len(wire.requests) == 1


@pytest.mark.parametrize("way", [*COMMANDS, Ask.serve, Ask.door], ids=lambda way: way.__name__)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_shape_of_a_failure_is_one_clear_error(
    wire: WireServer, env: dict[str, str], home: Path, failure: Failure, way: Way
) -> None:
    play(wire, failure)
    if failure.name in {"cut", "error-in-a-stream"}:  # these may pass
        env["QA_RETRIES"] = "0"
    ask = Ask(env, home)
    code, out, err = way(ask)
    if way is Ask.batch:
        assert code in {failure.exit_code, PART_FAILED}, err
    elif way in COMMANDS:
        assert code == failure.exit_code, err
        assert failure.text in err
    elif way is Ask.serve or failure.name == "key":
        assert code == failure.status
    else:
        assert (code, out.encode()) == (failure.whole[0], failure.whole[2])
    record = ask.record()
    if way is Ask.door and failure.name in NO_TEXT:
        assert (record["status"], record["error"]) == ("answered", None)
        return
    assert record["status"] in {"failed", "interrupted"}
    assert record["error"]
    if failure.name not in {"cut", "error-in-a-stream", "web-page"}:
        assert len(wire.requests) == 1
