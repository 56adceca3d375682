"""The endpoints of the table in docs/providers.md, by answers and errors of the form of each.

The bodies follow the endpoints' documentation, with the texts shortened.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY, Invoke
from wire_server import EVENTS, JSON, Answer, WireServer

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).parents[2] / "docs" / "providers.md"
HEADING = "## What is kept of each endpoint"

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
RAW_ERROR = json.dumps({"error": {"message": "Slow down.", "type": "rate_limit_error"}})
LINK = {"type": "url_citation", "url_citation": {"url": "https://e.org", "title": "E"}}


@dataclass(frozen=True)
class Endpoint:
    """The response of an endpoint, and the expected record.

    Attributes:
        name: As in the table.
        pieces: The messages of its chunks; joined they are the message of a whole answer.
        choice: Other fields of the last chunk's choice, or of the whole answer's.
        fields: Other fields of the last chunk, or of the whole answer.
        record: Fields of the record.
        details: Fields of the record's `details`.
        error: Status and body of an error of its own.
        message: A part of what is printed.
        exit_code: Of the command.
        before: Lines of the stream before the first chunk.
    """

    name: str
    pieces: list[dict[str, Any]]
    error: tuple[int, object]
    message: str
    exit_code: int
    choice: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    before: str = ""

    def streamed(self) -> Answer:
        """Return the answer as a stream, whose last chunk has the finish reason and the usage."""
        choices = [{"index": 0, "delta": piece, "finish_reason": None} for piece in self.pieces]
        chunks = [{"id": "c", "model": "m-1", "choices": [choice]} for choice in choices]
        last = {"index": 0, "delta": {}, "finish_reason": "stop", **self.choice}
        chunks.append({"id": "c", "model": "m-1", "choices": [last], **self.fields})
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        return (200, {"content-type": EVENTS}, f"{self.before}{events}data: [DONE]\n\n".encode())

    def whole(self) -> Answer:
        """Return the same answer as one document."""
        message: dict[str, Any] = {"role": "assistant"}
        for piece in self.pieces:
            for name, value in piece.items():
                message[name] = message[name] + value if name in message else value
        choice = {"index": 0, "message": message, "finish_reason": "stop", **self.choice}
        body = {"id": "c", "model": "m-1", "choices": [choice], **self.fields}
        return 200, {"content-type": JSON}, json.dumps(body).encode()

    def refusal(self) -> Answer:
        """Return an error of the endpoint."""
        status, body = self.error
        if isinstance(body, bytes):
            return status, {"content-type": EVENTS}, body
        return status, {"content-type": JSON}, json.dumps(body).encode()


ENDPOINTS = [
    Endpoint(
        "OpenAI",
        [{"content": "hel"}, {"content": "lo", "annotations": [LINK]}],
        error=(429, {"error": {"message": "Quota.", "code": "insufficient_quota"}}),
        message="Add credit",
        exit_code=5,
        fields={
            "service_tier": "flex",
            "system_fingerprint": "fp",
            "obfuscation": "a7Xf",
            "usage": {
                **USAGE,
                "prompt_tokens_details": {"cached_tokens": 90, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
        },
        record={"cached_tokens": 90, "reasoning_tokens": 7},
        details={"annotations": [LINK], "service_tier": "flex", "system_fingerprint": "fp"},
    ),
    Endpoint(
        "Azure",
        [{"content": "hello"}],
        error=(
            400,
            {
                "error": {
                    "message": "The response was filtered.",
                    "code": "content_filter",
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                }
            },
        ),
        message="Put the question differently",
        exit_code=5,
        choice={"content_filter_results": {"hate": {"filtered": False}}},
        fields={"prompt_filter_results": [{"prompt_index": 0}], "usage": USAGE},
        details={
            "content_filter_results": {"hate": {"filtered": False}},
            "prompt_filter_results": [{"prompt_index": 0}],
        },
        before='data: {"choices": [], "prompt_filter_results": []}\n\n'
        'data: {"choices": [{"index": 0, "delta": null, "finish_reason": null}]}\n\n',
    ),
    Endpoint(
        "Anthropic",
        [{"content": "hello"}],
        error=(529, {"error": {"message": "Overloaded", "type": "overloaded_error"}}),
        message="Ask again later",
        exit_code=6,
        fields={"usage": {**USAGE, "cache_read_input_tokens": 90}},
        record={"cached_tokens": 90},
    ),
    Endpoint(
        "Gemini",
        [{"content": "<thought>so"}, {"content": "</thought>hello"}],
        error=(
            429,
            [
                {
                    "error": {
                        "code": 429,
                        "message": "Resource has been exhausted.",
                        "status": "RESOURCE_EXHAUSTED",
                        "details": [
                            {
                                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                                "retryDelay": "31s",
                            }
                        ],
                    }
                }
            ],
        ),
        message="Resource has been exhausted",
        exit_code=6,
        choice={"finish_reason": "MAX_TOKENS"},
        fields={"usage": USAGE},
        record={"reasoning": "so", "finish_reason": "length"},
        details={"native_finish_reason": "MAX_TOKENS"},
    ),
    Endpoint(
        "OpenRouter",
        [
            {
                "content": "",
                "reasoning": "so",
                "reasoning_details": [{"type": "reasoning.text", "text": "so"}],
            },
            {
                "content": "hello",
                "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
                "annotations": [LINK],
            },
        ],
        error=(
            429,
            {
                "error": {
                    "code": 429,
                    "message": "Provider returned error",
                    "metadata": {"raw": RAW_ERROR, "provider_name": "P"},
                }
            },
        ),
        message="Provider returned error: Slow down",
        exit_code=6,
        choice={"native_finish_reason": "end_turn"},
        fields={"provider": "P", "usage": {**USAGE, "cost": 0.0123}},
        record={"reasoning": "so", "cost_usd": 0.0123},
        details={
            "annotations": [LINK],
            "provider": "P",
            "native_finish_reason": "end_turn",
            "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        },
        before=": OPENROUTER PROCESSING\n\n",
    ),
    Endpoint(
        "DeepSeek",
        [{"content": "", "reasoning_content": "so"}, {"content": "hello"}],
        error=(402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}),
        message="Add credit",
        exit_code=5,
        fields={
            "usage": {
                **USAGE,
                "prompt_cache_hit_tokens": 90,
                "completion_tokens_details": {"reasoning_tokens": 7},
            }
        },
        record={"reasoning": "so", "cached_tokens": 90, "reasoning_tokens": 7},
        before=": keep-alive\n\n",
    ),
    Endpoint(
        "Mistral",
        [
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "so"}]},
                    {"type": "text", "text": "hello"},
                    {"type": "reference", "reference_ids": [1]},
                ]
            }
        ],
        error=(
            422,
            {
                "object": "error",
                "message": {"detail": [{"loc": ["body", "n"], "msg": "Input should be 1"}]},
            },
        ),
        message="n: Input should be 1",
        exit_code=5,
        fields={"usage": {**USAGE, "num_cached_tokens": 90}},
        record={"reasoning": "so", "cached_tokens": 90},
        details={"content": [{"type": "reference", "reference_ids": [1]}]},
    ),
    Endpoint(
        "Groq",
        [{"content": "", "reasoning": "so"}, {"content": "hello"}],
        error=(498, {"error": {"message": "No capacity.", "code": "capacity_exceeded"}}),
        message="Ask again later",
        exit_code=6,
        fields={"x_groq": {"id": "r", "usage": {**USAGE, "total_time": 0.1}}, "usage": None},
        record={"reasoning": "so"},
        details={"x_groq": {"id": "r", "usage": {**USAGE, "total_time": 0.1}}},
    ),
    Endpoint(
        "vLLM",
        [{"content": "", "reasoning_content": "so"}, {"content": "hello"}],
        error=(
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens.",
                "type": "BadRequestError",
                "code": 400,
            },
        ),
        message="Shorten the question",
        exit_code=5,
        choice={"stop_reason": 128009},
        fields={"usage": USAGE},
        record={"reasoning": "so"},
        details={"stop_reason": 128009},
    ),
    Endpoint(
        "Ollama",
        [{"content": "", "reasoning": "so"}, {"content": "hello"}],
        error=(404, {"error": {"message": "model 'm-1' not found", "type": "not_found_error"}}),
        message="model 'm-1' not found",
        exit_code=5,
        fields={"system_fingerprint": "fp_ollama", "usage": USAGE},
        record={"reasoning": "so"},
        details={"system_fingerprint": "fp_ollama"},
    ),
    Endpoint(
        "LM Studio",
        [{"content": "", "reasoning_content": "so"}, {"content": "hello"}],
        error=(
            200,
            b'event: error\ndata: {"error": {"message": "Context size has been exceeded."}}\n\n',
        ),
        message="Shorten the question",
        exit_code=5,
        fields={"stats": {"tokens_per_second": 9}, "usage": USAGE},
        record={"reasoning": "so"},
        details={"stats": {"tokens_per_second": 9}},
    ),
    Endpoint(
        "llama.cpp",
        [{"content": "", "reasoning_content": "so"}, {"content": "hello"}],
        error=(
            400,
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size",
                    "type": "exceed_context_size_error",
                }
            },
        ),
        message="Shorten the question",
        exit_code=5,
        fields={
            "timings": {"predicted_n": 20},
            "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 90}},
        },
        record={"reasoning": "so", "cached_tokens": 90},
        details={"timings": {"predicted_n": 20}},
    ),
]


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with closing(WireServer()) as server:
        yield server


def ask(wire: WireServer, answer: Answer, *flags: str) -> tuple[int, str, str]:
    """Ask once; return the exit code and both outputs."""
    wire.answers["/v1/chat/completions"] = answer
    env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{wire.address}/v1", "QA_RETRIES": "0"}
    done = Invoke({**env, "QA_MODEL": "m-1"})("ask", "--json", *flags, "Who?")
    return done.code, done.out, done.err


@pytest.mark.parametrize("is_whole", [False, True], ids=["stream", "whole"])
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_endpoint_answer_is_stored_with_all_its_fields(
    wire: WireServer, endpoint: Endpoint, *, is_whole: bool
) -> None:
    answer = endpoint.whole() if is_whole else endpoint.streamed()
    code, out, err = ask(wire, answer, *(["--no-stream"] if is_whole else []))
    assert code == 0, err
    record = json.loads(out)
    expected = {
        "answer": "hello",
        "model": "m-1",
        "prompt_tokens": 100,
        "completion_tokens": 20,
        **endpoint.record,
    }
    assert {name: record[name] for name in expected} == expected
    details = record["details"] or {}
    details.pop("usage", None)  # as it came, where it says more
    assert details == endpoint.details


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_endpoint_error_has_advice(wire: WireServer, endpoint: Endpoint) -> None:
    code, _, err = ask(wire, endpoint.refusal())
    assert (code, endpoint.message in err) == (endpoint.exit_code, True), err
    assert len(wire.requests) == 1


def table() -> dict[str, str]:
    """Return the rows of the table by their first cell."""
    section = DOCUMENT.read_text().partition(HEADING)[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return {row.split("|")[1].strip(): row for row in rows if not row.startswith("| ---")}


def test_table_of_endpoints_has_a_row_for_each_one() -> None:
    assert list(table()) == [endpoint.name for endpoint in ENDPOINTS]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_table_of_endpoints_names_only_tested_ones(endpoint: Endpoint) -> None:
    bodies = " ".join(str(answer[2]) for answer in (endpoint.streamed(), endpoint.refusal()))
    names = re.findall(r"`([^`]+)`", table()[endpoint.name])
    values = {*names} - {str(endpoint.error[0])}
    assert [name for name in values if name not in bodies] == []
