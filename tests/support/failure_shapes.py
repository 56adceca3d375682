"""The shapes of failures that endpoints are known to send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from endpoint_shapes import (
    DATA,
    IMAGE,
    START,
    TOOL_CALL,
    USAGE,
    WHOLE,
    chunk,
    document,
    stream,
    whole,
)
from wire_server import EVENTS, JSON, Answer


@dataclass(frozen=True)
class Failure:
    """A response that is no answer, and its error.

    Attributes:
        exit_code: Of the command line.
        status: Of the response of `POST /ask`.
        text: A part of the error.
        may_pass: Another request may succeed, so that it is sent again.
        answer: The part of the answer that is kept.
        door: Status of the response of `/v1`, if it is not that of the provider.
    """

    name: str
    streamed: Answer
    whole: Answer
    exit_code: int
    status: int
    text: str
    may_pass: bool = False
    door: int | None = None
    answer: str | None = None


def refusal(
    name: str,
    status: int,
    body: object,
    exit_code: int,
    http: int,
    text: str,
    *,
    may_pass: bool = False,
    door: int | None = None,
) -> Failure:
    """Return the failure of a response with an error status, streamed and whole."""
    if isinstance(body, str):
        answer = status, {"content-type": "text/plain"}, body.encode()
    else:
        answer = document(body, status)
    return Failure(name, answer, answer, exit_code, http, text, may_pass, door)


def bytes_refusal(
    name: str, headers: dict[str, str], body: str, text: str | None = None
) -> Failure:
    """Return the failure of a response with status 400 and other headers."""
    answer = 400, headers, body.encode()
    return Failure(name, answer, answer, 5, 502, body if text is None else text)


def message_failure(
    name: str, message: dict[str, Any], finish: str, text: str, *, may_pass: bool = False
) -> Failure:
    """Return the failure of a complete message without an answer."""
    streamed = stream(chunk(message), chunk({}, finish))
    document = whole(message, finish, usage=USAGE)
    return Failure(name, streamed, document, 6, 502, text, may_pass, door=502)


CUT = stream(START, chunk({"content": "hel"}), done=False)
PAGE = 200, {"content-type": "text/html"}, b"<!doctype html><title>Welcome</title>"
DEEP = 200, {"content-type": JSON}, b'{"choices": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
ERROR_LATER = stream(
    chunk({"content": "hel"}), 'data: {"error": {"message": "Overloaded.", "code": 502}}'
)

BUSY = 429, {"content-type": JSON, "x-should-retry": "false"}, b"{}"
NOT_GZIP = 200, {"content-type": JSON, "content-encoding": "gzip"}, WHOLE[2]
CUT_WHOLE = 200, {"content-type": JSON}, WHOLE[2][:40]
PROXY = 200, {"content-type": "text/plain"}, b"upstream connect error\nor disconnect\n"
LATE = '{"error": {"message": "Overloaded.", "code": 502}}'
ERROR = document({"error": {"message": "Overloaded.", "code": 502}})
LATE_ERROR = stream(
    ": processing", '{"error": {"message": "Overloaded.", "code": 502}}', done=False
)
INDENTED = stream(START, json.dumps([json.loads(LATE)], indent=2), done=False)
SENTENCE = stream(START, chunk({"content": "hel"}), "data: Overloaded", done=False)
TEXT_EVENT = stream("event: error\ndata: Overloaded", done=False)
LLAMA_ERROR = {"code": 400, "message": "m", "type": "exceed_context_size_error"}
OLD_LLAMA = stream("error: " + json.dumps(LLAMA_ERROR), done=False)
LLAMA = document({"error": LLAMA_ERROR}, 400)
VERDICT = {"content_filter_results": {"hate": {"filtered": True}}}
FILTERED = document({"choices": [], "prompt_filter_results": [VERDICT]})
MINIMAX = document(
    {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}
)
SENSITIVE = {"status_code": 1026, "status_msg": "input new_sensitive"}
BASE_RESP_STREAM = stream(chunk({"content": ""}), chunk({}, "stop", base_resp=SENSITIVE))
FILTERED_BY_MINIMAX = whole({"content": ""}, base_resp=SENSITIVE)
NO_CHOICES = document(
    {"choices": [], "base_resp": {"status_code": 2013, "status_msg": "unknown model"}}
)
OVERLOADED = {"error": {"message": "Overloaded.", "code": 502}}
TEXT_AND_ERROR = stream(chunk({"content": "hel"}, x_groq=OVERLOADED))
WHOLE_AND_ERROR = document(
    {"choices": [{"message": {"content": "hel"}, "finish_reason": "error", **OVERLOADED}]}
)
BLANK = 200, {"content-type": JSON}, b"\n\n\n"
NO_TEXT = stream(": keep-alive", done=False)
TOO_LONG = {"error_type": "BadRequestError", "error_message": "maximum context length is 8."}
BAD_CALL = "function_call_filter: MALFORMED_FUNCTION_CALL"
SEE_OTHER = 303, {"location": "/v1/other"}, b""
NOT_ACCEPTED = 200, {"content-type": JSON, "content-encoding": "br"}, b"\x1b\x03"
MODELS = document({"object": "list", "data": []})

FAILURES = [
    Failure(
        *("cut-json-lines", (200, {"content-type": JSON}, "\n".join(DATA[:2]).encode()), CUT_WHOLE),
        *(6, 502, ""),
        may_pass=True,
    ),
    Failure(
        *("error-in-json-lines", (200, {"content-type": JSON}, f"{DATA[1]}\n{LATE}".encode())),
        *(document(json.loads(LATE)), 6, 503, "Overloaded"),
        may_pass=True,
    ),
    Failure(
        *("cut", CUT, (200, {"content-type": JSON}, WHOLE[2][:40]), 6, 502, ""),
        may_pass=True,
        door=502,
    ),
    Failure("web-page", PAGE, PAGE, 6, 502, "web page", may_pass=True),
    Failure("deep-json", DEEP, DEEP, 6, 502, "nested too deeply"),
    Failure(
        "error-in-a-stream",
        ERROR_LATER,
        document({"error": {"message": "Overloaded.", "code": 502}}),
        6,
        503,
        "Overloaded",
        may_pass=True,
        door=503,
    ),
    Failure("comment-then-an-error", LATE_ERROR, ERROR, 6, 503, "Overloaded", may_pass=True),
    Failure("indented-error", INDENTED, ERROR, 6, 503, "Overloaded", may_pass=True),
    Failure("sentence-in-a-stream", SENTENCE, ERROR, 6, 503, "Overloaded", may_pass=True),
    Failure("error-of-old-llama.cpp", OLD_LLAMA, LLAMA, 5, 502, "Shorten the question"),
    Failure("error-event-of-text", TEXT_EVENT, ERROR, 6, 503, "Overloaded", may_pass=True),
    Failure("no-choices-but-filtered", FILTERED, FILTERED, 6, 502, "content filter"),
    Failure("no-choices-but-a-reason", MINIMAX, MINIMAX, 5, 502, "Add credit"),
    Failure("no-answer", MODELS, MODELS, 6, 502, "does not have the form of an API", may_pass=True),
    message_failure(
        "failed-in-the-middle",
        {"content": "hel"},
        "insufficient_system_resource",
        "failed before the end",
        may_pass=True,
    ),
    message_failure("filtered-by-gemini", {"content": None}, "SAFETY", "content filter"),
    message_failure("limit-of-gemini", {"content": ""}, "MAX_TOKENS", "token limit"),
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
    refusal("key", 401, {"error": {"message": "No."}}, 3, 502, "OPENAI_API_KEY", door=502),
    refusal(
        "key-of-gemini",
        400,
        [{"error": {"code": 400, "message": "API key not valid."}}],
        5,
        502,
        "OPENAI_API_KEY",
    ),
    bytes_refusal("unknown-charset", {"content-type": "text/plain; charset=foo-8"}, "closed"),
    bytes_refusal("events", {"content-type": EVENTS}, "event: error\ndata: not now\n\n", "not now"),
    bytes_refusal("not-compressed", {"content-encoding": "gzip"}, "{}", "without a reason"),
    Failure("busy-for-long", BUSY, BUSY, 6, 503, "Ask again later"),
    Failure(*("answer-not-compressed", NOT_GZIP, NOT_GZIP, 6, 502, "decompressed"), may_pass=True),
    refusal("no-reason", 400, "", 5, 502, "without a reason"),
    refusal("capacity", 498, {"error": {"message": "m"}}, 6, 503, "Ask again", may_pass=True),
    refusal(
        "json-in-the-message",
        400,
        {"error": {"message": "Upstream: " + json.dumps({"error": {"message": "deep"}})}},
        5,
        502,
        "Upstream: deep.",
    ),
    Failure(
        *("filtered-by-minimax", BASE_RESP_STREAM, FILTERED_BY_MINIMAX, 5, 502, "differently"),
    ),
    Failure(
        *("status-of-minimax-without-choices", NO_CHOICES, NO_CHOICES, 5, 502, "unknown model"),
    ),
    Failure(
        *("error-beside-a-text", TEXT_AND_ERROR, WHOLE_AND_ERROR, 6, 503, "Overloaded"),
        may_pass=True,
        answer="hel",
    ),
    message_failure("filtered-by-cohere", {"content": ""}, "ERROR_TOXIC", "content filter"),
    message_failure("limit-of-cohere", {"content": ""}, "ERROR_LIMIT", "token limit"),
    refusal(
        "filtered-by-dashscope",
        400,
        {"code": "DataInspectionFailed", "message": "Inappropriate content."},
        *(5, 502, "differently"),
    ),
    *(
        refusal(name, status, {"error": error}, 5, 502, "Put the question differently")
        for name, status, error in (
            ("filtered-by-deepseek", 400, {"message": "Content Exists Risk"}),
            ("filtered-by-xai", 403, {"message": "Content violates usage guidelines."}),
            ("filtered-by-anthropic", 400, {"message": "Output blocked by content filtering."}),
            ("filtered-by-stepfun", 451, {"message": "m", "type": "censorship_blocked"}),
            ("filtered-by-volcengine", 400, {"message": "m", "code": "SensitiveContentDetected.X"}),
        )
    ),
    *(
        refusal(name, 403, {"message": message}, 5, 502, "OPENAI_API_KEY")
        for name, message in (
            ("leaked-key", "Your API key was reported as leaked."),
            ("expired-token", "Bearer Token has expired"),
            ("unknown-token", "The security token included in the request is invalid."),
        )
    ),
    refusal(
        "quota-with-401",
        401,
        {"error": {"message": "Quota.", "type": "insufficient_quota", "code": 401}},
        *(5, 502, "Add credit"),
    ),
    refusal("arrears", 429, {"error": {"code": "1113", "message": "m"}}, 5, 502, "Add credit"),
    refusal(
        "quota-of-one-api",
        403,
        {"error": {"message": "该令牌额度已用尽", "type": "one_api_error"}},
        *(5, 502, "Add credit"),
    ),
    refusal(
        "quota-of-new-api",
        403,
        {"error": {"message": "m", "code": "insufficient_user_quota"}},
        *(5, 502, "Add credit"),
    ),
    refusal(
        "context-of-sglang",
        400,
        {"message": "The input (9 tokens) is longer than the model's context length (8 tokens)."},
        *(5, 502, "Shorten the question"),
    ),
    Failure(
        *("sentence-of-a-proxy", PROXY, PROXY, 6, 503, "upstream connect error"), may_pass=True
    ),
    Failure(*("blank-lines", BLANK, BLANK, 6, 502, "answer is empty"), may_pass=True),
    Failure(*("nothing-but-a-comment", NO_TEXT, BLANK, 6, 502, "answer is empty"), may_pass=True),
    Failure(
        *("cut-in-the-middle", (200, {"content-type": JSON}, WHOLE[2][:50]), CUT_WHOLE),
        *(6, 502, "cut off"),
        may_pass=True,
    ),
    Failure(
        "error-of-deepinfra-in-a-stream",
        stream("data: " + json.dumps({"choices": None, **TOO_LONG})),
        document(TOO_LONG, 400),
        *(5, 502, "Shorten the question"),
    ),
    Failure(
        "detail-in-a-stream",
        stream(chunk({"content": "hel"}), 'data: {"detail": "Overloaded"}', done=False),
        document(
            {"choices": [{"message": {"content": "hel"}, "error": {"message": "Overloaded"}}]}
        ),
        *(6, 503, "Overloaded"),
        may_pass=True,
        answer="hel",
    ),
    message_failure(
        "call-that-gemini-cannot-read", {"content": "hel"}, BAD_CALL, "failed before", may_pass=True
    ),
    refusal(
        "larger-than-a-minute",
        429,
        {"error": {"message": "The input or output tokens must be reduced in order to run."}},
        *(5, 502, "Shorten the question"),
    ),
    refusal(
        "cancelled-by-gemini",
        499,
        [{"error": {"code": 499, "message": "The operation was cancelled."}}],
        *(6, 503, "Ask again later"),
        may_pass=True,
    ),
    refusal(
        "overloaded-with-400",
        400,
        {"error": {"message": "m", "code": "server_is_overloaded"}},
        *(6, 503, "Ask again later"),
        may_pass=True,
    ),
    refusal("model-failed", 424, {"message": "m"}, 6, 503, "Ask again later", may_pass=True),
    refusal("not-supported-by-llama.cpp", 501, {"error": {"message": "m"}}, 5, 502, "the options"),
    refusal("login-page", 511, "<html><title>Login</title></html>", 5, 502, "firewall"),
    refusal("firewall", 403, "<!DOCTYPE html><title>Blocked</title>", 5, 502, "firewall"),
    refusal("wrong-method", 405, {"detail": "Method Not Allowed"}, 5, 502, "OPENAI_BASE_URL"),
    refusal(
        "country",
        403,
        {"error": {"message": "Country, region, or territory not supported"}},
        *(5, 502, "a network in a country"),
    ),
    refusal(
        "model-with-401",
        401,
        {"error": {"type": "ModelError", "message": "Model m is not supported for format f"}},
        *(5, 502, "serves the model"),
    ),
    refusal("permission", 403, {"message": "Missing scopes."}, 5, 502, "the key, its account"),
    Failure("see-other", SEE_OTHER, SEE_OTHER, 5, 502, "a redirect that cannot be followed"),
    Failure(*("brotli", NOT_ACCEPTED, NOT_ACCEPTED, 6, 502, "decompressed"), may_pass=True),
    refusal(
        "detail-in-the-message",
        422,
        {"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "m"}]}},
        5,
        502,
        "n: m.",
    ),
]


HTTP_FAILURES = {
    *("cut", "error-in-a-stream", "tool-call", "filtered", "list", "detail-list", "page"),
    *("credits", "quota", "context", "key", "failed-in-the-middle"),
    *("larger-than-a-minute", "cancelled-by-gemini", "not-supported-by-llama.cpp"),
}
