"""The Responses API: the body of a request, and the events of every kind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_provider import Reply, Request, responses
from openai.types.responses import Response, ResponseStreamEvent, ToolParam
from openai.types.responses.response_create_params import (
    ResponseCreateParamsBase,
    ResponseCreateParamsNonStreaming,
)
from pydantic import TypeAdapter

from qacli.cost import Usage
from qacli.domain import ChatRequest, ContextPart, Question, Turn
from qacli.errors import BrokenAnswer
from qacli.json_schema import response_format
from qacli.provider.refused_features import Feature
from qacli.provider.response import ChatResponse, ErrorInAnswer, calls_of
from qacli.provider.responses_api import ResponsesApi

PNG = "data:image/png;base64,aGVsbG8="
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
FORM = response_format(SCHEMA)


def body_of(
    refused: frozenset[Feature] = frozenset(),
    *,
    turns: list[Turn] | None = None,
    parts: list[ContextPart] | None = None,
    system: str | None = None,
    stream: bool = False,
    **params: Any,
) -> dict[str, Any]:
    """Return the body for a question, checked with the types of the openai package."""
    question = Question(question="Who?", system=system, params={"model": "m", **params})
    request = ChatRequest(question=question, turns=turns or (), parts=parts or (), stream=stream)
    body = ResponsesApi().build_body(request, refused, official=True)
    # `json_object` is not strictly a dict with a schema: the union of the types knows both.
    TypeAdapter(ResponseCreateParamsNonStreaming).validate_python({**body, "stream": False})
    TypeAdapter(list[ToolParam]).validate_python(body.get("tools", []))
    assert body.keys() <= {*ResponseCreateParamsBase.__annotations__, "stream"}
    return body


def test_body_of_a_question_is_an_input_that_is_not_stored() -> None:
    assert body_of(system="Be brief.", stream=True) == {
        "model": "m",
        "instructions": "Be brief.",
        "input": [{"type": "message", "role": "user", "content": "Who?"}],
        "store": False,
        "stream": True,
    }


def test_body_of_a_follow_up_has_the_turns_and_the_files() -> None:
    turn = Turn("First?", "One.", [ContextPart("<image />", PNG)])
    body = body_of(turns=[turn], parts=[ContextPart("<file>a</file>")])
    assert body["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "<image />"},
                {"type": "input_image", "image_url": PNG, "detail": "auto"},
                {"type": "input_text", "text": "First?"},
            ],
        },
        {"type": "message", "role": "assistant", "content": "One."},
        {"type": "message", "role": "user", "content": "<file>a</file>\n\nWho?"},
    ]


def test_body_has_the_parameters_by_their_names_in_this_api() -> None:
    body = body_of(
        max_tokens=9,
        temperature=0.5,
        top_p=0.1,
        response_format=FORM,
        verbosity="low",
        reasoning_effort="high",
        service_tier="flex",
        metadata={"a": "b"},
    )
    del body["input"]
    assert body == {
        "model": "m",
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.1,
        "text": {
            "format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True},
            "verbosity": "low",
        },
        "reasoning": {"summary": "auto", "effort": "high"},
        "service_tier": "flex",
        "metadata": {"a": "b"},
        "store": False,
        "stream": False,
    }


def test_body_has_user_options_by_their_names_in_this_api() -> None:
    body = body_of(
        reasoning={"effort": "low", "summary": "detailed"},
        text={"verbosity": "high"},
        response_format={"type": "json_object"},
        include=["code_interpreter_call.outputs"],
        logprobs=True,
        store=True,
    )
    assert body["reasoning"] == {"summary": "detailed", "effort": "low"}
    assert body["text"] == {"format": {"type": "json_object"}, "verbosity": "high"}
    assert body["include"] == ["message.output_text.logprobs", "code_interpreter_call.outputs"]
    assert body["store"] is True


@pytest.mark.parametrize("params", [{}, {"reasoning_effort": "none"}])
def test_body_without_reasoning_asks_for_no_summary(params: dict[str, Any]) -> None:
    assert "summary" not in body_of(**params).get("reasoning", {})


def test_body_of_a_search_asks_for_its_sources() -> None:
    body = body_of(tools=[{"type": "web_search", "search_context_size": "low"}])
    assert body["tools"] == [{"type": "web_search", "search_context_size": "low"}]
    assert body["include"] == ["web_search_call.action.sources"]


def test_body_leaves_refused_features_out() -> None:
    refused = frozenset({Feature.REASONING_SUMMARY, Feature.INCLUDE, Feature.RESPONSE_FORMAT})
    body = body_of(
        refused,
        system="Be brief.",
        reasoning_effort="low",
        tools=[{"type": "web_search"}],
        response_format=FORM,
    )
    assert body["reasoning"] == {"effort": "low"}
    assert "include" not in body
    assert "text" not in body
    assert body["instructions"].startswith("Be brief.\n\nAnswer with a JSON document")


def test_body_of_messages_has_all_of_them_as_input() -> None:
    """A request of /v1 and a line of the Batch API bring their own messages."""
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:,x"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "It is 42."}]},
        {"role": "user", "content": "Why?"},
    ]
    body = body_of(
        system="Be brief.",
        messages=messages,
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "f"}},
    )
    assert "instructions" not in body
    assert body["tools"] == [{"type": "function", **function}]
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert body["input"] == [
        {"type": "message", "role": "system", "content": "Be brief."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look."},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:,x"},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"type": "message", "role": "assistant", "content": "It is 42."},
        {"type": "message", "role": "user", "content": "Why?"},
    ]


def read_stream(*events: dict[str, Any]) -> ChatResponse:
    """Read the events of a stream; `delta` and `answer` below write the usual ones."""
    api, response = ResponsesApi(), ChatResponse()
    for event in events:
        api.read_event(event["type"], event, response)
    return response


def delta(
    text: str, output_index: int = 0, kind: str = "output_text", **fields: Any
) -> dict[str, Any]:
    place = {"output_index": output_index, "content_index": 0, **fields}
    return {"type": f"response.{kind}.delta", "delta": text, **place}


def message(text: str, **fields: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], **fields.pop("part", {})}
    return {"type": "message", "role": "assistant", "content": [part], **fields}


def answer(*items: dict[str, Any], status: str = "completed", **fields: Any) -> dict[str, Any]:
    response = {"id": "resp_1", "object": "response", "model": "m-1", "output": list(items)}
    return {"type": f"response.{status}", "response": {**response, "status": status, **fields}}


def test_stream_of_deltas_gives_the_answer_with_its_details() -> None:
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 12,
    }
    response = read_stream(
        {"type": "response.created", "response": {"id": "resp_1", "model": "m-1"}},
        {"type": "response.some_event_of_next_year", "delta": "not a text"},
        delta("Hel"),
        delta("lo"),
        {"type": "response.output_text.done", "output_index": 0, "text": "Hello"},
        answer(message("Hello"), usage=usage, service_tier="flex", temperature=1.0),
    )
    assert response.text == "Hello"
    assert response.is_done
    assert (response.model, response.response_id) == ("m-1", "resp_1")
    assert response.finish_reason == "stop"
    assert response.usage == Usage(5, 7, cached_tokens=2, reasoning_tokens=3)
    assert response.details == {"service_tier": "flex"}


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([], "one two"),
        ([delta("one")], "one two"),
        ([delta("one two", output_index=7)], "one two"),
        ([delta("two")], "one two"),
    ],
    ids=["all", "end", "none", "start"],
)
def test_stream_with_lost_deltas_has_the_text_of_the_last_event(
    events: list[dict[str, Any]], text: str
) -> None:
    assert read_stream(*events, answer(message("one two"))).text == text


def test_stream_of_openrouter_has_reasoning_and_its_finish_reason() -> None:
    end = {"type": "response.done", "response": answer(message("one"))["response"]}
    response = read_stream(delta("so", kind="reasoning"), delta("one"), end)
    assert (response.text, response.reasoning_texts) == ("one", ["so"])
    assert (response.is_done, response.finish_reason) == (True, "stop")


def test_stream_with_a_text_as_content_is_read() -> None:
    assert read_stream(answer({**message(""), "content": "one"})).text == "one"


def test_stream_of_chat_completions_names_the_other_api() -> None:
    with pytest.raises(BrokenAnswer, match="not one of the Responses API"):
        read_stream({"type": "message", "object": "chat.completion.chunk", "choices": []})


def test_stream_without_final_output_has_the_earlier_items() -> None:
    item = message("one two")
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    assert read_stream(done, answer()).text == "one two"
    assert read_stream(delta("one two"), done, answer()).text == "one two"


@pytest.mark.parametrize("last", [answer(), answer(message("one"), message("two"))])
def test_stream_of_whole_texts_without_deltas_has_their_text(last: dict[str, Any]) -> None:
    texts = [
        {"type": "response.output_text.done", "output_index": index, "text": text}
        for index, text in enumerate(("one", "two"))
    ]
    assert read_stream(*texts, last).text == "one\n\ntwo"
    assert read_stream(delta("one"), texts[0], answer()).text == "one"


@pytest.mark.parametrize("name", ["output_text", "output"])
def test_document_with_the_text_alone_is_read(name: str) -> None:
    response = ChatResponse()
    ResponsesApi().read_document({"object": "response", name: "one"}, response)
    assert (response.text, response.finish_reason) == ("one", "stop")


def test_document_of_calls_and_reasoning_in_other_types_is_read() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}}
    response = ChatResponse()
    items = [{"type": "reasoning", "summary": [], "content": "so"}, call]
    ResponsesApi().read_document({"object": "response", "output": items}, response)
    assert response.reasoning_texts == ["so"]
    assert calls_of(response.details) == [("f", '{"a": 1}')]


def test_stream_of_two_messages_has_an_empty_line_between_them() -> None:
    whole = answer(message("one"), message("two"))
    assert read_stream(delta("one"), delta("two", 1), whole).text == "one\n\ntwo"
    assert read_stream(whole).text == "one\n\ntwo"


def test_stream_without_indices_is_read_by_the_ids_of_its_items() -> None:
    """llama.cpp's server sends events of this kind."""
    kind = "response.output_text.delta"
    comment = {**message("I look.", phase="commentary"), "id": "msg_1"}
    response = read_stream(
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
        {"type": "response.output_item.added", "item": comment},
        {"type": kind, "item_id": "msg_1", "delta": "I look."},
        {"type": kind, "item_id": "msg_2", "delta": "Hello"},
        {"type": kind, "item_id": "msg_3", "delta": "there"},
        answer(comment, message("Hello"), message("there")),
    )
    assert (response.text, response.reasoning_texts) == ("Hello\n\nthere", ["I look."])


def test_stream_with_commentary_has_it_as_reasoning() -> None:
    comment = message("I look.", phase="commentary")
    added = {"type": "response.output_item.added", "output_index": 0, "item": comment}
    end = answer(comment, message("Found.", phase="final_answer"))
    response = read_stream(added, delta("I look."), delta("Found.", 1), end)
    assert (response.text, response.reasoning_texts) == ("Found.", ["I look."])
    assert read_stream(answer(comment)).text == "I look."


def test_stream_of_reasoning_has_an_empty_line_between_its_parts() -> None:
    summary = [{"type": "summary_text", "text": text} for text in ("One.", "Two.")]
    end = answer({"type": "reasoning", "summary": summary, "encrypted_content": "x"}, message("a"))
    kind = "reasoning_summary_text"
    streamed = [
        delta("One.", kind=kind, summary_index=0),
        delta("Two.", kind=kind, summary_index=1),
    ]
    for events in ([*streamed, delta("a", 1), end], [end]):
        response = read_stream(*events)
        assert "".join(response.reasoning_texts) == "One.\n\nTwo."
        assert response.text == "a"
        assert response.details == {}


def test_stream_of_raw_reasoning_is_kept() -> None:
    content = [{"type": "reasoning_text", "text": "Hm."}]
    end = answer({"type": "reasoning", "summary": [], "content": content}, message("a"))
    for events in ([delta("Hm.", kind="reasoning_text"), end], [end]):
        assert read_stream(*events).reasoning_texts == ["Hm."]


def test_stream_of_a_search_has_its_calls_and_citations() -> None:
    citation = {"type": "url_citation", "url": "https://a.example", "title": "A"}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    part = {"annotations": [{**citation, "start_index": 0, "end_index": 3}]}
    kind = "response.output_text.annotation.added"
    added = {"type": kind, "output_index": 2, "annotation": part["annotations"][0]}
    nested = {"url": "https://a.example", "title": "A", "start_index": 5, "end_index": 8}
    events = [delta("one", 1), delta("two", 2), added]
    end = answer(search, message("one"), message("two", part=part))
    for response in (read_stream(*events, end), read_stream(end)):
        assert response.details == {
            "web_search_call": [search],
            "annotations": [{"type": "url_citation", "url_citation": nested}],
        }
    assert response.text[5:8] == "two"
    # A stream that breaks off has the citations that have arrived.
    assert read_stream(*events).details["annotations"][0]["url_citation"] == nested


def test_stream_of_calls_and_images_has_them_in_the_details() -> None:
    response = read_stream(
        answer(
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"},
            {"type": "image_generation_call", "result": "aGVsbG8="},
        )
    )
    assert response.finish_reason == "tool_calls"
    assert response.details == {
        "tool_calls": [
            {"id": "c1", "function": {"name": "f", "arguments": "{}"}},
            {"id": "c2", "function": {"name": "g", "arguments": "x"}},
        ],
        "images": [{"type": "image_generation_call", "result": "aGVsbG8="}],
    }


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("max_output_tokens", "length"),
        ("content_filter", "content_filter"),
        ("steered", "steered"),
        (None, "incomplete"),
    ],
)
def test_stream_of_an_incomplete_response_has_its_reason(
    reason: str | None, finish_reason: str
) -> None:
    end = answer(message("a"), status="incomplete", incomplete_details={"reason": reason})
    assert read_stream(delta("a"), end).finish_reason == finish_reason


def test_stream_of_a_refusal_is_a_marked_text() -> None:
    item = message("", part={"type": "refusal", "refusal": "No."})
    for events in ([delta("No.", kind="refusal")], []):
        response = read_stream(*events, answer(item))
        assert response.text == "No."
        assert response.details == {"refusal": True}


def test_stream_of_a_failed_response_raises_and_keeps_its_usage() -> None:
    error = {"code": "server_error", "message": "It broke."}
    api, response = ResponsesApi(), ChatResponse()
    usage = {"input_tokens": 1, "output_tokens": 2}
    with pytest.raises(ErrorInAnswer) as raised:
        api.read_event("", answer(status="failed", error=error, usage=usage), response)
    assert (raised.value.error.code, raised.value.error.message) == ("server_error", "It broke.")
    assert response.usage == Usage(1, 2)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "x", "message": "It broke.", "param": None},
        {"type": "error", "error": {"code": "x", "message": "It broke."}},
        {"type": "response.error", "error": {"code": "x", "message": "It broke."}},
        {"error": {"code": "x", "message": "It broke."}},
        [{"error": {"code": "x", "message": "It broke."}}],
    ],
)
def test_event_of_an_error_raises_it(event: object) -> None:
    with pytest.raises(ErrorInAnswer) as raised:
        ResponsesApi().read_event("message", event, ChatResponse())
    assert (raised.value.error.code, raised.value.error.message) == ("x", "It broke.")


@pytest.mark.parametrize(
    "document",
    ["text", [], {}, {"choices": []}, {"object": "response", "status": "queued", "output": []}],
)
def test_document_of_another_kind_is_a_broken_answer(document: object) -> None:
    with pytest.raises(BrokenAnswer):
        ResponsesApi().read_document(document, ChatResponse())


@pytest.mark.parametrize(
    "value", [None, 1, "x", [], {}, [None], {"content": 1}, [{"content": [1]}]]
)
def test_document_with_wrong_types_is_read_in_part(value: Any) -> None:
    names = ("id", "model", "output", "usage", "status", "incomplete_details")
    for name in names:
        fields = {"object": "response", "status": "incomplete", "output": [message("a")]}
        fields[name] = value
        response = ChatResponse()
        ResponsesApi().read_document(fields, response)
        ResponsesApi().read_event("response.completed", {"response": fields}, response)


REPLIES = [
    Reply(),
    Reply(reasoning="Let me see.", finish_reason="length"),
    Reply(refusal="No."),
    Reply(tool="f", arguments='{"a": 1}'),
    Reply(failed="server_error"),
    Reply(usage=False),
]


@pytest.mark.parametrize("reply", REPLIES, ids=str)
def test_fake_provider_sends_what_the_types_of_openai_describe(reply: Reply) -> None:
    body = body_of(tools=[{"type": "web_search"}], system="Be brief.")
    request = Request(0.0, "POST", responses.PATH, {}, body, "Who?", 1)
    Response.model_validate(json.loads(responses.SHAPE.whole(request, reply)))
    events, _, _ = responses.SHAPE.events(request, reply)
    adapter: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
    for text in events:
        kind, data = (line.partition(": ")[2] for line in text.split("\n"))
        event = adapter.validate_json(data)
        assert event.type == kind
    assert event.type == "response.failed" if reply.failed else True


@pytest.mark.parametrize("name", ["messages", "max_tokens", "seed", "stop"])
def test_fake_provider_refuses_parameters_of_chat_completions(name: str) -> None:
    refusal = responses.refusal_of({"model": "m", "input": "Who?", name: 1})
    assert refusal is not None
    assert (refusal.status, refusal.param) == (400, name)


def test_stream_of_built_in_tool_calls_has_them_as_its_answer() -> None:
    shell = {"type": "local_shell_call", "id": "l1", "call_id": "c1", "action": {"command": ["a"]}}
    approval = {"type": "mcp_approval_request", "id": "m1", "name": "f", "arguments": "{}"}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    response = read_stream(answer(shell, approval, search))
    assert response.finish_reason == "tool_calls"
    arguments = '{"action": {"command": ["a"]}}'
    assert response.details == {
        "tool_calls": [
            {"id": "c1", "function": {"name": "local_shell_call", "arguments": arguments}},
            {"id": "m1", "function": {"name": "f", "arguments": "{}"}},
        ],
        "local_shell_call": [shell],
        "mcp_approval_request": [approval],
        "web_search_call": [search],
    }
