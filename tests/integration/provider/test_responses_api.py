"""Asking by the Responses API, and changing over from one API to the other."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY, texts_of
from fake_provider import FakeProvider, Reply

from qacli.config.settings import Settings
from qacli.cost import Usage
from qacli.domain import ChatRequest, Question, ReasoningDelta
from qacli.errors import ProviderError, ProviderRefused, ProviderUnavailable
from qacli.provider.endpoint import Endpoint
from qacli.provider.response import ChatResponse
from qacli.provider.sync import SyncProvider

if TYPE_CHECKING:
    from pathlib import Path

Ask = "Callable[..., ChatResponse]"
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
SEARCH = {"tools": [{"type": "web_search"}]}
ONLY_RESPONSES = (
    "status=404 param=model message="
    "'This model is only supported in v1/responses and not in v1/chat/completions.'"
)
NO_SUCH_PATH = "status=404 code=not_found message='404 page not found'"
UNVERIFIED = (
    "status=400 code=unsupported_value param=reasoning.summary "
    "message='Your organization must be verified to generate reasoning summaries.'"
)
ways = pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])


class Client:
    """Ask the provider, with a new client for each question, as processes of qa do."""

    def __init__(self, provider: FakeProvider, home: Path) -> None:
        self.provider = provider
        self.home = home
        self.notices: list[str] = []
        self.events: list[object] = []

    def ask(
        self, question: str = "Who?", api: str = "auto", *, whole: bool = False, **params: Any
    ) -> ChatResponse:
        settings = Settings(api_key=KEY, data_dir=self.home, retries=0, timeout=10, api=api)
        endpoint = Endpoint(base_url=self.provider.base_url, key=KEY, model="m")
        response = ChatResponse()
        request = ChatRequest(
            question=Question(question=question, params={"model": "m", **params}),
            stream=not whole,
        )
        client = SyncProvider(endpoint, settings, on_notice=self.notices.append)
        with closing(client):
            self.events = list(client.stream(request, response))
        return response

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.provider.requests]


@pytest.fixture
def client(provider: FakeProvider, home: Path) -> Client:
    return Client(provider, home)


@ways
def test_answer_of_the_responses_api_is_complete(client: Client, *, whole: bool) -> None:
    question = "Who am I? [[reasoning='Let me see.']]"
    response = client.ask(question, "responses", whole=whole, reasoning_effort="low")
    assert "".join(texts_of(client.events)) == response.text == f"Answer to: {question}"
    assert ReasoningDelta("Let me see.") in client.events
    assert response.usage == Usage(6, 11, reasoning_tokens=3)
    assert (response.model, response.finish_reason) == ("m-2026-01-01", "stop")
    assert (response.response_id or "").startswith("resp_")
    assert response.details == {"service_tier": "default"}
    (request,) = client.provider.requests
    assert request.path == RESPONSES
    assert request.body["reasoning"] == {"summary": "auto", "effort": "low"}
    assert request.body["store"] is False


@ways
def test_answer_of_a_search_has_its_citations_and_sources(client: Client, *, whole: bool) -> None:
    response = client.ask(whole=whole, **SEARCH)
    assert client.paths == [RESPONSES]
    first, second = (item["url_citation"] for item in response.details["annotations"])
    assert (first["url"], first["title"]) == ("https://example.com/1", "First")
    assert response.text[first["start_index"] : first["end_index"]] == "Answer"
    assert second["end_index"] == len(response.text)
    (call,) = response.details["web_search_call"]
    assert [source["url"] for source in call["action"]["sources"]] == [first["url"], second["url"]]


def test_stream_without_deltas_has_the_text_of_the_last_event(client: Client) -> None:
    response = client.ask("[[lost text='one two']]", "responses")
    assert response.text == "one two"
    assert texts_of(client.events) == ["one two"]


@ways
@pytest.mark.parametrize(
    ("code", "kind", "is_retryable"),
    [
        ("server_error", ProviderUnavailable, True),
        ("rate_limit_exceeded", ProviderUnavailable, True),
        ("invalid_prompt", ProviderRefused, False),
        ("image_content_policy_violation", ProviderRefused, False),
        ("bio_policy", ProviderRefused, False),
    ],
)
def test_failed_response_is_an_error_by_its_code(
    client: Client, code: str, kind: type[ProviderError], is_retryable: bool, *, whole: bool
) -> None:
    with pytest.raises(ProviderError, match=r"The model failed to answer\.") as raised:
        client.ask(f"[[failed={code} text='']]", "responses", whole=whole)
    assert type(raised.value) is kind
    assert raised.value.retryable is is_retryable
    assert raised.value.details["code"] == code


@ways
def test_model_needing_responses_is_retried_and_remembered(
    client: Client, home: Path, *, whole: bool
) -> None:
    client.provider.script(ONLY_RESPONSES)
    assert client.ask(whole=whole).text == "Answer to: Who?"
    assert client.ask("And now?", whole=whole).text == "Answer to: And now?"
    assert client.paths == [CHAT, RESPONSES, RESPONSES]
    host = client.provider.base_url.removeprefix("http://").removesuffix("/v1")
    assert client.notices == [f"m at {host} needs the Responses API, which is used from now on."]
    table = json.loads((home / "endpoints.json").read_bytes())
    assert table == {client.provider.base_url: {"m": ["chat_completions"]}}


def test_model_refused_by_both_apis_is_an_error_and_not_remembered(
    client: Client, home: Path
) -> None:
    client.provider.script(
        ONLY_RESPONSES, "status=400 message='m is not supported with the Responses API.'"
    )
    with pytest.raises(ProviderRefused, match="not supported with the Responses API"):
        client.ask()
    assert client.paths == [CHAT, RESPONSES]
    assert not (home / "endpoints.json").exists()


@pytest.mark.parametrize(
    ("api", "refusal"),
    [("chat", ONLY_RESPONSES), ("responses", NO_SUCH_PATH)],
)
def test_chosen_api_refused_is_an_error_with_its_setting(
    client: Client, api: str, refusal: str
) -> None:
    client.provider.script(refusal)
    with pytest.raises(ProviderRefused) as raised:
        client.ask(api=api)
    assert raised.value.todo == "Set QA_API to auto, which asks by the other API."
    assert len(client.paths) == 1


def test_tools_without_responses_api_are_an_error_with_the_option(client: Client) -> None:
    client.provider.script(NO_SUCH_PATH)
    with pytest.raises(ProviderRefused, match="Leave out --tool") as raised:
        client.ask(**SEARCH)
    assert "404 page not found" in raised.value.what
    assert client.paths == [RESPONSES]


def test_summary_refused_is_left_out_from_then_on(client: Client) -> None:
    client.provider.script(UNVERIFIED)
    for _ in range(2):
        client.ask(api="responses", reasoning_effort="high")
    summaries = [request.body["reasoning"].get("summary") for request in client.provider.requests]
    assert summaries == ["auto", None, None]
    (notice,) = client.notices
    assert notice.endswith("sends no summary of its reasoning.")


def test_feature_refused_by_an_event_is_left_out(client: Client) -> None:
    """OpenAI sends this refusal after the beginning of the stream."""
    client.provider.script(UNVERIFIED.replace("status=400", "error=0"))
    assert client.ask(api="responses", reasoning_effort="high").text == "Answer to: Who?"
    assert len(client.paths) == 2


def test_option_refused_by_responses_is_named(client: Client) -> None:
    with pytest.raises(ProviderRefused, match="Leave out --seed"):
        client.ask(api="responses", seed=1)


def test_whole_answer_of_another_api_is_a_broken_answer(client: Client) -> None:
    client.provider.script(Reply(body="no_choices"))
    with pytest.raises(ProviderError, match="empty"):
        client.ask(api="responses", whole=True)
