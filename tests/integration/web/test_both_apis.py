"""The server works the same by Chat Completions and by the Responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.testing import FlaskClient

    from qacli.config.settings import Settings

    Problem = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
apis = pytest.mark.parametrize("api", PATHS)
SEARCH = {"type": "web_search", "search_context_size": "low"}


@pytest.fixture
def api() -> str:
    return "auto"


@pytest.fixture
def settings(settings: Settings, api: str) -> Settings:
    return settings.replace(api=api)


@apis
def test_question_by_either_api_is_the_same_record(
    client: FlaskClient, provider: FakeProvider, api: str
) -> None:
    record = client.post("/ask", json={"question": "Who?", "max_tokens": 7}).get_json()
    assert record["answer"] == "Answer to: Who?"
    assert record["params"] == {"model": "test-model", "max_tokens": 7}
    assert (record["finish_reason"], record["completion_tokens"]) == ("stop", 3)
    assert provider.requests[0].path == PATHS[api]


@apis
def test_stream_by_either_api_has_a_delta_for_each_piece(client: FlaskClient, api: str) -> None:
    response = client.post("/ask", json={"question": "Who?", "stream": True})
    assert response.text.count("event: delta") == 3, api
    assert response.text.count("event: done") == 1


@apis
def test_schema_by_either_api_is_corrected_once(
    client: FlaskClient, provider: FakeProvider, api: str
) -> None:
    provider.script(Reply(text='{"age": 1}'), Reply(text='{"age": "one"}'))
    record = client.post("/ask", json={"question": "How old?", "schema": "age"}).get_json()
    assert record["answer"] == '{"age": "one"}'
    assert [request.path for request in provider.requests] == [PATHS[api]] * 2


@apis
@pytest.mark.parametrize("streamed", [False, True])
def test_client_of_openai_gets_the_same_answer_by_either_api(
    client: FlaskClient, provider: FakeProvider, api: str, *, streamed: bool
) -> None:
    """The messages of a client of `/v1/chat/completions` are sent by either API."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "Two?"}]},
    ]
    body = {"model": "m-9", "messages": messages, "stream": streamed, "max_completion_tokens": 9}
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    if streamed:
        assert '"content":"Answer"' in response.text.replace(" ", "")
    else:
        message = response.get_json()["choices"][0]["message"]
        assert message["content"] == "Answer to: Two?"
    (request,) = provider.requests
    assert request.path == PATHS[api]
    if api == "chat":
        assert request.body["messages"] == messages
    else:
        assert [item["role"] for item in request.body["input"]] == [
            "system",
            "user",
            "assistant",
            "user",
        ]


def test_tools_of_a_question_are_sent_and_recorded(
    client: FlaskClient, provider: FakeProvider
) -> None:
    body = {"question": "Who?", "tools": ["web_search", SEARCH]}
    record = client.post("/ask", json=body).get_json()
    assert record["params"]["tools"] == [{"type": "web_search"}, SEARCH]
    assert len(record["details"]["annotations"]) == 2
    assert provider.requests[0].path == PATHS["responses"]
    assert provider.requests[0].body["tools"] == record["params"]["tools"]


@pytest.mark.parametrize("tool", ["", "a b", "function", {}, {"type": 1}, {"type": "custom"}, 1])
def test_tool_that_cannot_be_used_is_a_problem(
    client: FlaskClient, provider: FakeProvider, problem: Problem, tool: object
) -> None:
    response = client.post("/ask", json={"question": "Who?", "tools": [tool]})
    problem(response, 422, "invalid-request")
    assert not provider.requests
