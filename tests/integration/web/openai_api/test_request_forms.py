"""The records of requests with parts, items and fields of every form that clients send."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_provider import FakeProvider
    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
ASK = {"role": "user", "content": "Do it"}
DATA = f"data:image/png;base64,{b64encode(b'picture' * 9).decode()}"
SHELL = {"action": {"type": "exec", "command": ["ls"]}}
PATCH = {"operation": {"type": "delete_file", "path": "x"}}


def record_of(
    client: FlaskClient, provider: FakeProvider, store: Store, path: str, **body: Any
) -> QuestionAnswer:
    """Send a request, check that the provider gets its bytes, and return the record."""
    data = json.dumps({"model": "m", **body}).encode()
    response = client.post(path, data=data, content_type="application/json")
    assert response.status_code == 200, response.text
    assert provider.requests[-1].content == data
    return store.newest()


@pytest.mark.parametrize(
    ("call", "result", "question"),
    [
        (
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
            "apply(*** Begin) -> done",
        ),
        (
            {"type": "local_shell_call", "id": "l1", "call_id": "c1", **SHELL},
            {"type": "local_shell_call_output", "id": "c1", "output": "a.txt"},
            f"local_shell_call({json.dumps(SHELL)}) -> a.txt",
        ),
        (
            {"type": "shell_call", "id": "s1", "call_id": "c1", **SHELL},
            {"type": "shell_call_output", "call_id": "c1", "output": [{"stdout": "a.txt"}]},
            f'shell_call({json.dumps(SHELL)}) -> [{{"stdout": "a.txt"}}]',
        ),
        (
            {"type": "apply_patch_call", "id": "a1", "call_id": "c1", **PATCH},
            {"type": "apply_patch_call_output", "call_id": "c1", "status": "completed"},
            f'apply_patch_call({json.dumps(PATCH)}) -> {{"status": "completed"}}',
        ),
        (
            {"type": "mcp_approval_request", "id": "m1", "name": "f", "arguments": "{}"},
            {"type": "mcp_approval_response", "approval_request_id": "m1", "approve": False},
            'f() -> {"approve": false}',
        ),
        (
            {"type": "function_call", "call_id": "c1", "name": "view", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": []},
            "view() ->",
        ),
    ],
)
def test_result_of_any_call_is_the_question(
    client: FlaskClient,
    provider: FakeProvider,
    store: Store,
    call: dict[str, Any],
    result: dict[str, Any],
    question: str,
) -> None:
    record_of(client, provider, store, RESPONSES, input=[ASK])
    items = [ASK, call, result]
    record = record_of(client, provider, store, RESPONSES, input=items)
    assert record.question == question
    # It continues record 1, although the fake provider did not answer with this call.
    assert (record.follows_id, record.params["messages"]) == (1, items[1:])


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (
            {"type": "function_call", "call_id": "c1", "name": "view", "arguments": "{}"},
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [{"type": "input_image", "image_url": DATA}],
            },
        ),
        (
            {"type": "computer_call", "call_id": "c1", "action": {"type": "screenshot"}},
            {
                "type": "computer_call_output",
                "call_id": "c1",
                "output": {"type": "computer_screenshot", "image_url": DATA},
            },
        ),
    ],
)
def test_image_in_the_result_of_a_tool_is_an_attachment_without_its_bytes(
    client: FlaskClient,
    provider: FakeProvider,
    store: Store,
    call: dict[str, Any],
    result: dict[str, Any],
) -> None:
    record = record_of(client, provider, store, RESPONSES, input=[ASK, call, result])
    assert record.question.endswith(') -> <image name="image-1.png" />')
    assert [(file["name"], file["size"]) for file in record.attachments] == [("image-1.png", 63)]
    assert "base64" not in json.dumps(record.params)
    assert "omitted" in json.dumps(record.params["messages"][2]["output"])


def test_image_of_the_model_sent_back_is_recorded_without_its_bytes(
    client: FlaskClient, provider: FakeProvider, store: Store
) -> None:
    image = {"type": "image_generation_call", "id": "ig_1", "result": DATA.partition(",")[2]}
    empty = {"type": "image_generation_call", "id": "ig_2", "result": None}
    items = [ASK, image, empty, {"role": "user", "content": "Again"}]
    record = record_of(client, provider, store, RESPONSES, input=items)
    kept = record.params["messages"]
    assert "omitted" in kept[1]["result"]
    assert kept == [items[0], {**image, "result": kept[1]["result"]}, *items[2:]]


@pytest.mark.parametrize("kind", ["video_url", "audio_url"])
def test_media_by_url_or_data_is_an_attachment(
    client: FlaskClient, provider: FakeProvider, store: Store, kind: str
) -> None:
    name = kind.removesuffix("_url")
    content = [
        {"type": "text", "text": "See"},
        {"type": kind, kind: {"url": f"data:{name}/mp4;base64,QUJD"}},
        {"type": kind, kind: {"url": "https://a.example/b.mp4"}},
    ]
    message = {"role": "user", "content": content}
    record = record_of(client, provider, store, CHAT, messages=[message])
    assert record.question == "See"
    assert [(file["name"], file["size"]) for file in record.attachments] == [
        (f"{name}-1.mp4", 3),
        ("https://a.example/b.mp4", None),
    ]
    assert "messages" not in record.params


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "See", "name": "bob"},
        {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "new", "x": 1}]},
    ],
)
def test_message_with_more_than_text_and_files_is_recorded_whole(
    client: FlaskClient, provider: FakeProvider, store: Store, message: dict[str, Any]
) -> None:
    record = record_of(client, provider, store, CHAT, messages=[message])
    assert (record.question, record.params["messages"]) == ("See", [message])


def test_fields_that_another_api_has_are_params_of_the_record(
    client: FlaskClient, provider: FakeProvider, store: Store
) -> None:
    template = {"id": "pmpt_1", "variables": {"a": "b"}}
    record = record_of(client, provider, store, CHAT, messages=[ASK], prompt=template, input="x")
    assert record.params == {"model": "m", "prompt": template, "input": "x"}
    client.post(RESPONSES, json={"model": "m", "input": "Hi", "prompt": template})
    assert store.newest().params == {"model": "m", "prompt": template}
    record = record_of(client, provider, store, COMPLETIONS, prompt=[1, 2, 3])
    assert (record.question, record.params["prompt"]) == ("(no text)", [1, 2, 3])


def test_older_and_custom_calls_of_chat_have_their_arguments_in_the_question(
    client: FlaskClient, provider: FakeProvider, store: Store
) -> None:
    older = {"role": "assistant", "function_call": {"name": "w", "arguments": '{"a":1}'}}
    result = {"role": "function", "name": "w", "content": "sunny"}
    record = record_of(client, provider, store, CHAT, messages=[ASK, older, result])
    assert record.question == 'w({"a":1}) -> sunny'
    custom = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "+a"}}
    messages = [
        ASK,
        {"role": "assistant", "tool_calls": [custom]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    record = record_of(client, provider, store, CHAT, messages=messages)
    assert record.question == "patch(+a) -> done"


@pytest.mark.parametrize("value", [["x"], {"a": 1}])
@pytest.mark.parametrize(
    "path_and_message",
    [
        (CHAT, '{"role": %s, "content": "x"}'),
        (CHAT, '{"type": %s, "content": "x"}'),
        (CHAT, '{"role": "user", "content": [{"type": %s, "text": "x"}]}'),
        (CHAT, '{"role": "assistant", "tool_calls": [{"id": %s, "type": %s}]}'),
        (RESPONSES, '{"type": %s, "id": %s}'),
        (RESPONSES, '{"type": "function_call_output", "call_id": %s, "output": {"type": %s}}'),
    ],
)
def test_message_with_an_object_as_its_type_is_passed_on(
    client: FlaskClient,
    provider: FakeProvider,
    store: Store,
    value: Any,
    path_and_message: tuple[str, str],
) -> None:
    path, message = path_and_message
    item = json.loads(message.replace("%s", json.dumps(value)))
    body = {"messages": [ASK, item]} if path == CHAT else {"input": [ASK, item]}
    record_of(client, provider, store, path, **body)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("value", [["x"], {"a": 1}, 5])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (RESPONSES, '{"input": [{"type": "message", "role": %s, "content": %s}]}'),
        (RESPONSES, '{"input": [{"role": "user", "content": [{"type": %s}]}]}'),
        (RESPONSES, '{"input": "x", "tools": %s}'),
        (RESPONSES, '{"input": "x", "include": %s}'),
        (RESPONSES, '{"input": "x", "text": {"format": %s}}'),
        (CHAT, '{"messages": [{"role": %s, "content": "x"}]}'),
        (CHAT, '{"messages": [{"role": "user", "content": [{"type": %s}]}]}'),
        (CHAT, '{"messages": [], "tools": [{"type": "function", "function": %s}]}'),
    ],
)
def test_request_of_any_form_is_translated_or_refused(
    build: Callable[..., Flask], path: str, body: str, value: Any
) -> None:
    client = build(api="responses" if path == CHAT else "chat").test_client()
    content = json.loads(body.replace("%s", json.dumps(value)))
    assert client.post(path, json={"model": "m", **content}).status_code in {200, 400}
