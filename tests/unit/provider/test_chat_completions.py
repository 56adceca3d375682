"""Responses of Chat Completions in the dialects of endpoints."""

import json
import math
from typing import Any

import pytest

from qacli.cost import Pricing, Usage
from qacli.domain import ChatRequest, Delta, Question, ReasoningDelta
from qacli.errors import BrokenAnswer
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.refused_features import Feature
from qacli.provider.response import ChatResponse, ErrorInAnswer, calls_of
from qacli.provider.think_tags import ThinkTagSplitter
from qacli.provider.tool_call_pieces import MAX_TOOL_CALLS

API = ChatCompletions()


def read(*messages: dict[str, Any], **fields: Any) -> ChatResponse:
    response = ChatResponse(think_tags=ThinkTagSplitter())
    for message in messages:
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        API.read_document({"id": "c", "model": "m", "choices": [choice], **fields}, response)
    response.close()
    return response


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("message", "answer", "reasoning"),
    [
        ({"content": "hello"}, "hello", ""),
        ({"content": [text("hel"), text("lo")]}, "hello", ""),
        ({"content": ["hel", "lo"]}, "hello", ""),
        ({"content": [{"type": "text", "text": {"value": "hello"}}]}, "hello", ""),
        # Mistral
        (
            {"content": [{"type": "thinking", "thinking": [text("so")]}, text("hello")]},
            "hello",
            "so",
        ),
        # Anthropic's compatible endpoints
        ({"content": [{"type": "thinking", "thinking": "so"}, text("hello")]}, "hello", "so"),
        ({"content": "hello", "reasoning_content": "so"}, "hello", "so"),
        ({"content": "hello", "reasoning": {"content": "so"}}, "hello", "so"),
        ({"content": "hello", "reasoning": ["s", {"type": "text", "text": "o"}]}, "hello", "so"),
        (
            {
                "content": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
                    {"type": "text", "text": "hello"},
                ]
            },
            "hello",
            "so",
        ),
        ({"content": "hello", "reasoning": "so"}, "hello", "so"),
        (
            {
                "content": "hello",
                "reasoning": "so",
                "reasoning_details": [{"type": "reasoning.text", "text": "so"}],
            },
            "hello",
            "so",
        ),
        (
            {
                "content": "hello",
                "reasoning_details": [{"type": "reasoning.summary", "summary": "so"}],
            },
            "hello",
            "so",
        ),
        ({"content": "<think>so</think>\n\nhello"}, "hello", "so"),
        ({"content": {"type": "text", "text": "hello"}}, "hello", ""),
        ({"content": "hello", "thinking": "so"}, "hello", "so"),
        ({"content": "hello", "reasoning_text": "so"}, "hello", "so"),
        # LiteLLM, with and without the text in its own field
        (
            {
                "content": "hello",
                "reasoning_content": "so",
                "thinking_blocks": [{"type": "thinking", "thinking": "so", "signature": "x"}],
            },
            "hello",
            "so",
        ),
        ({"content": "hello", "thinking_blocks": [{"thinking": "so"}]}, "hello", "so"),
        ({"content": None, "audio": {"id": "a", "data": "AA", "transcript": "hello"}}, "hello", ""),
        ({"content": None, "refusal": "I cannot."}, "I cannot.", ""),
        ({"content": [{"type": "refusal", "refusal": "I cannot."}]}, "I cannot.", ""),
        ({"content": 7, "reasoning_content": [7], "tool_calls": "x", "refusal": {}}, "", ""),
        ({"content": [None, 7, {"type": "text", "text": None}, {}]}, "", ""),
    ],
)
def test_read_document_content_of_any_form_gives_answer_and_reasoning(
    message: dict[str, Any], answer: str, reasoning: str
) -> None:
    response = read(message)
    assert response.text == answer
    assert "".join(response.reasoning_texts) == reasoning


def test_read_event_pieces_give_their_events() -> None:
    response = ChatResponse()

    def piece(**delta: Any) -> object:
        return API.read_event("message", {"choices": [{"index": 0, "delta": delta}]}, response)

    assert piece(role="assistant", content="") == []
    assert piece(reasoning_content="so") == [ReasoningDelta("so")]
    assert piece(content="hello") == [Delta("hello")]
    assert API.read_event("ping", {"type": "ping"}, response) == []
    assert API.read_event("message", {"type": "ping"}, response) == []
    assert response.text == "hello"


def test_read_event_other_choice_adds_nothing() -> None:
    response = ChatResponse()
    other = {"index": 1, "delta": {"content": "OTHER"}, "finish_reason": "length"}
    assert API.read_event("message", {"choices": [other]}, response) == []
    assert API.read_event("message", {"choices": [{"delta": {"content": "ours"}}]}, response)
    assert (response.text, response.finish_reason) == ("ours", None)


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("stop", "stop"),
        ("eos_token", "eos_token"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("SAFETY", "content_filter"),
        ("FINISH_REASON_PROHIBITED_CONTENT", "content_filter"),
        ("content_filter: RECITATION", "content_filter"),
        ("sensitive", "content_filter"),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "malformed_function_call"),
        ("TIMEOUT", "timeout"),
        ("time_limit", "time_limit"),
        ("refusal", "content_filter"),
        ("ERROR", "error"),
        ({"type": "length", "length": 5}, "length"),
        ("", None),
        ("null", None),
        ("None", None),
        (7, None),
        (None, None),
    ],
)
def test_read_document_finish_reason_is_translated_and_kept(
    native: object, reason: str | None
) -> None:
    response = ChatResponse()
    choice = {"message": {"content": "a"}, "finish_reason": native}
    API.read_document({"choices": [choice]}, response)
    assert response.finish_reason == reason
    assert response.details == (
        {"native_finish_reason": native} if reason not in (native, None) else {}
    )


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([{"delta": {"content": "a"}, "message": {"content": "a"}}], "a"),
        (
            [
                {"delta": {"content": "a"}, "message": {"content": "a"}},
                {"delta": {"content": "b"}, "message": {"content": "ab"}},
            ],
            "ab",
        ),
        ([{"delta": {"content": "a"}}, {"delta": {}, "message": {"content": "a"}}], "a"),
        ([{"message": {"content": "a"}}, {"message": {"content": "b"}}], "ab"),
        ([{"delta": {}, "message": {"content": "a"}}], "a"),
        ([{"delta": None, "finish_reason": None}, {"index": "0", "delta": {"content": "a"}}], "a"),
        ([{"text": "a"}, {"text": "b"}], "ab"),
        (  # MiniMax
            [
                {"delta": {"content": "a"}},
                {"delta": {"content": "b"}},
                {"message": {"content": "ab"}},
            ],
            "ab",
        ),
        ([{"delta": {"content": "\ud83d"}}, {"delta": {"content": "\ude00!"}}], "\U0001f600!"),
        ([{"delta": {"content": "a\ud83d"}}, {"delta": {"content": "b"}}], "a\ufffdb"),
        ([{"delta": {"content": "a\ud83d"}}], "a\ufffd"),
    ],
)
def test_read_event_pieces_and_messages_are_read_once(
    chunks: list[dict[str, Any]], text: str
) -> None:
    response = ChatResponse()
    for choice in chunks:
        API.read_event("message", {"choices": [choice]}, response)
    assert response.text == text


@pytest.mark.parametrize("document", [None, "text", 7, [], {}, {"choices": None}, {"choices": []}])
def test_read_event_without_a_choice_adds_nothing(document: object) -> None:
    response = ChatResponse()
    assert API.read_event("message", document, response) == []
    assert response == ChatResponse(started=response.started)


def test_read_document_all_other_fields_are_kept_as_details() -> None:
    annotation = {"type": "url_citation", "url_citation": {"url": "https://e.org", "title": "E"}}
    response = read(
        {"content": "a", "annotations": [annotation]},
        {"content": "b", "annotations": [annotation], "reasoning_details": [{"data": "x"}]},
        service_tier="flex",
        system_fingerprint="fp",
        citations=["https://e.org"],
        empty=None,
    )
    assert response.details == {
        "annotations": [annotation, annotation],
        "reasoning_details": [{"data": "x"}],
        "service_tier": "flex",
        "system_fingerprint": "fp",
        "citations": ["https://e.org"],
    }


def test_read_event_log_probabilities_and_tool_calls_are_joined() -> None:
    response = ChatResponse()
    for number in (1, 2):
        call = {"index": 0, "function": {"arguments": f"{number}"}}
        if number == 1:
            call = {"index": 0, "id": "t", "function": {"name": "f", "arguments": "1"}}
        choice = {"delta": {"tool_calls": [call]}, "logprobs": {"content": [number]}}
        API.read_event("message", {"choices": [choice]}, response)
    assert response.details == {
        "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "12"}}],
        "logprobs": {"content": [1, 2]},
    }
    with pytest.raises(BrokenAnswer, match="called a tool instead of answering: f") as error:
        response.require_text()
    assert not error.value.retryable


def tool_piece(call_id: str | None = None, index: object = 0, **function: str) -> dict[str, Any]:
    """Return a piece of a tool call; null in place of an id."""
    return {"tool_calls": [{"index": index, "id": call_id, "function": function}]}


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        # The older API; Gemini without an index, in pieces and as two calls.
        (
            [
                {"function_call": {"name": "f", "arguments": "{"}},
                {"function_call": {"arguments": "}"}},
            ],
            [("f", "{}")],
        ),
        (
            [
                {"tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{"}}]},
                {"tool_calls": [{"function": {"arguments": "}"}}]},
                {"tool_calls": [{"id": "u", "function": {"name": "g", "arguments": "1"}}]},
            ],
            [("f", "{}"), ("g", "1")],
        ),
        ([{"tool_calls": [{"function": {"arguments": "}"}}]}], [("?", "}")]),
        # The id once more in each piece, without an index.
        (
            [
                {"tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{"}}]},
                {"tool_calls": [{"id": "u", "function": {"name": "g", "arguments": "1"}}]},
                {"tool_calls": [{"id": "t", "function": {"arguments": "}"}}]},
            ],
            [("f", "{}"), ("g", "1")],
        ),
        # MiniMax at NVIDIA, Kimi: the name in each piece. Gemini: a piece of the name in each.
        ([tool_piece(name="f", arguments="{"), tool_piece(name="f", arguments="}")], [("f", "{}")]),
        ([tool_piece(name="get_"), tool_piece(name="time", arguments="{}")], [("get_time", "{}")]),
        # vLLM: a new id in each piece; text indices.
        ([tool_piece("t", name="f", arguments="{"), tool_piece("u", arguments="}")], [("f", "{}")]),
        (
            [tool_piece(index="0", name="f", arguments="{"), tool_piece(index="0", arguments="}")],
            [("f", "{}")],
        ),
        # Ollama, Gemini, Claude: all calls have the index 0, with ids and without.
        (
            [
                tool_piece("t", name="f", arguments="1"),
                tool_piece("u", name="f", arguments="2"),
                tool_piece(arguments="3"),
            ],
            [("f", "1"), ("f", "23")],
        ),
        (
            [tool_piece(name="f", arguments="1"), tool_piece(name="g", arguments="2")],
            [("f", "1"), ("g", "2")],
        ),
        # The first index is 1; the pieces of two calls come in turns.
        ([tool_piece(index=1, name="f", arguments="{}")], [("f", "{}")]),
        (
            [
                tool_piece("t", index=0, name="f", arguments="{"),
                tool_piece("u", index=1, name="g", arguments="["),
                tool_piece(index=0, arguments="}"),
                tool_piece(index=1, arguments="]"),
            ],
            [("f", "{}"), ("g", "[]")],
        ),
        # A call that is no list, arguments that are no text.
        (
            [{"tool_calls": {"index": 0, "function": {"name": "f", "arguments": [1]}}}],
            [("f", "[1]")],
        ),
    ],
)
def test_read_event_tool_calls_of_each_dialect_are_joined(
    deltas: list[dict[str, Any]], calls: list[tuple[str, str]]
) -> None:
    response = ChatResponse()
    for delta in deltas:
        API.read_event("message", {"choices": [{"index": 0, "delta": delta}]}, response)
    assert calls_of(response.details) == calls


@pytest.mark.parametrize("dialect", ["index", "same index", "id", "none"])
def test_read_event_tool_calls_after_the_maximum_are_dropped(dialect: str) -> None:
    response = ChatResponse()
    for number in range(MAX_TOOL_CALLS + 1):
        index = {"index": number, "same index": 0}.get(dialect)
        call_id = None if dialect == "none" else f"t{number}"
        rest = None if dialect != "id" else call_id
        pieces = [
            {"index": index, "id": call_id, "function": {"name": f"f{number}", "arguments": "{"}},
            {"index": index, "id": rest, "function": {"arguments": "}"}},
        ]
        for piece in pieces:
            choice = {"index": 0, "delta": {"tool_calls": [piece]}}
            API.read_event("message", {"choices": [choice]}, response)
    expected = [(f"f{number}", "{}") for number in range(MAX_TOOL_CALLS)]
    assert calls_of(response.details) == expected


def test_close_half_a_character_is_the_last_event() -> None:
    response = ChatResponse()
    assert response.add_text("a\ud83d") == [Delta("a")]
    assert response.close() == [Delta("\ufffd")]
    assert response.text == "a\ufffd"


def test_read_event_with_the_code_of_success_is_no_error() -> None:
    response = ChatResponse()
    document = {"code": 0, "message": "Success", "usage": {"prompt_tokens": 3}}
    assert API.read_event("message", document, response) == []
    assert response.usage == Usage(3)


@pytest.mark.parametrize(
    "document",
    [
        {"error": {"message": "m", "code": 429}},
        {"error": "m"},
        [{"error": {"message": "m"}}],
        {"object": "error", "message": "m"},
        {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "m"}},
        {"detail": "m"},
        {"success": False, "errors": [{"code": 7003, "message": "m"}]},
        {
            "choices": [
                {"index": 0, "error": {"message": "m", "code": 502}, "finish_reason": "error"}
            ]
        },
    ],
)
def test_read_document_error_in_place_of_an_answer_is_raised(document: object) -> None:
    with pytest.raises(ErrorInAnswer) as error:
        API.read_document(document, ChatResponse())
    assert error.value.error.message == "m"


@pytest.mark.parametrize("field", ["message", "delta"])
def test_error_beside_choices_keeps_their_text(field: str) -> None:
    response = ChatResponse()
    choice = {"index": 0, field: {"content": "hel"}, "finish_reason": "error"}
    with pytest.raises(ErrorInAnswer, match="m"):
        API.read_event("message", {"choices": [choice], "error": {"message": "m"}}, response)
    assert response.text == "hel"


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("error", {"message": "m"}),
        ("error", "m"),
        ("message", {"code": "InternalError", "message": "m"}),
        ("message", [{"error": {"message": "m"}}]),
        ("message", {"choices": [], "x_groq": {"id": "r", "error": "m"}}),
    ],
)
def test_read_event_with_an_error_is_raised(kind: str, document: object) -> None:
    with pytest.raises(ErrorInAnswer, match="m"):
        API.read_event(kind, document, ChatResponse())


@pytest.mark.parametrize(
    "document", [[], "text", 7, None, [[]], {}, {"object": "list", "data": []}]
)
def test_read_document_that_is_no_answer_is_broken(document: object) -> None:
    with pytest.raises(BrokenAnswer):
        API.read_document(document, ChatResponse())


@pytest.mark.parametrize(
    ("reason", "details", "message", "retryable"),
    [
        ("error", {}, "failed before the end", True),
        ("content_filter", {}, "content filter", False),
        (
            None,
            {"prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": True}}}]},
            "content filter",
            False,
        ),
        (
            None,
            {"prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": False}}}]},
            "is empty",
            True,
        ),
        (None, {"prompt_filter_results": [None, {"content_filter_results": []}]}, "is empty", True),
    ],
)
def test_require_text_of_no_answer_names_the_reason(
    reason: str | None, details: dict[str, Any], message: str, *, retryable: bool
) -> None:
    response = ChatResponse(finish_reason=reason, details=details)
    with pytest.raises(BrokenAnswer, match=message) as error:
        response.require_text()
    assert error.value.retryable == retryable


def test_outcome_attempts_that_were_discarded_still_cost() -> None:
    response = read({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens": 2, "cost": 1})
    response.reset()
    second = {"message": {"content": "b"}}
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "cost": 2.5}
    API.read_document({"choices": [second], "usage": usage}, response)
    outcome = response.outcome(Pricing())
    assert (outcome.answer, outcome.prompt_tokens, outcome.completion_tokens) == ("b", 11, 22)
    assert outcome.cost_usd == 3.5


def test_outcome_values_that_no_database_takes_are_replaced() -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = [deep]
    response = read(
        {"content": "a\x00\ud800", "reasoning": "\x00"},
        **{"x\x00": "\x00", "nan": math.nan, "deep": deep, "infinite": [math.inf]},
    )
    outcome = response.outcome(Pricing())
    assert (outcome.answer, outcome.reasoning) == ("a\ufffd\ufffd", "\ufffd")
    assert outcome.details["x\ufffd"] == "\ufffd"
    assert outcome.details["infinite"] == [None]
    assert "nan" not in outcome.details
    assert json.dumps(outcome.details["deep"]).count("[") < 25


@pytest.mark.parametrize(
    ("refused", "stream", "expected"),
    [
        (set(), True, {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5}),
        ({Feature.STREAM_OPTIONS}, True, {"stream": True, "max_tokens": 5}),
        ({Feature.STREAM}, True, {"stream": False, "max_tokens": 5}),
        (set(), False, {"stream": False, "max_tokens": 5}),
        ({Feature.WHOLE, Feature.STREAM_OPTIONS}, False, {"stream": True, "max_tokens": 5}),
        ({Feature.MAX_TOKENS, Feature.STREAM}, True, {"stream": False, "max_completion_tokens": 5}),
    ],
)
def test_build_body_refused_features_are_left_out(
    refused: set[Feature], expected: dict[str, Any], *, stream: bool
) -> None:
    question = Question(question="Who?", params={"max_tokens": 5})
    request = ChatRequest(question=question, stream=stream)
    body = API.build_body(request, frozenset(refused), official=False)
    assert body == {"messages": [{"role": "user", "content": "Who?"}], **expected}


def test_build_body_refused_response_format_goes_into_the_prompt() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    question = Question(question="Who?", system="Be kind.", params={"response_format": form})
    refused = frozenset({Feature.RESPONSE_FORMAT})
    body = API.build_body(ChatRequest(question=question), refused, official=False)
    system = body["messages"][0]["content"]
    assert "response_format" not in body
    assert system.startswith("Be kind.\n\n")
    assert json.dumps(schema) in system
