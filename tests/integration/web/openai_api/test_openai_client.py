"""The OpenAI-compatible API, used by the openai package over a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest
from flask_fixtures import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fake_provider import FakeProvider

    from qacli.db.records import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def client(served: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served, api_key=TOKEN, max_retries=0, timeout=10) as client:
        yield client


def test_openai_client_reads_an_answer(client: openai.OpenAI, store: Store) -> None:
    completion = client.chat.completions.create(
        model="m-1", messages=[{"role": "user", "content": "Who am I?"}], max_completion_tokens=50
    )
    assert completion.choices[0].message.content == "Answer to: Who am I?"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0
    record = store.newest()
    assert (record.question, record.caller) == ("Who am I?", "default")
    assert record.params == {"model": "m-1", "max_completion_tokens": 50}


def test_openai_client_reads_a_stream(client: openai.OpenAI, store: Store) -> None:
    stream = client.chat.completions.create(
        model="m-1",
        messages=[{"role": "user", "content": "Who am I?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [each.choices[0].delta.content or "" for each in chunks if each.choices]
    assert "".join(texts) == "Answer to: Who am I?"
    assert len([text for text in texts if text]) > 1
    assert chunks[-1].usage is not None
    assert store.newest().answer == "Answer to: Who am I?"


def test_openai_client_stream_helper_joins_the_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="m-1", messages=[{"role": "user", "content": "Who am I?"}]
    ) as stream:
        content = stream.get_final_completion().choices[0].message.content
    assert content == "Answer to: Who am I?"


def test_openai_client_conversation_of_its_objects_is_a_thread(
    client: openai.OpenAI, store: Store
) -> None:
    said: list[object] = [{"role": "user", "content": "One?"}]
    first = client.chat.completions.create(model="m-1", messages=said)  # type: ignore[call-overload]
    said += [first.choices[0].message, {"role": "user", "content": "Two?"}]
    client.chat.completions.create(model="m-1", messages=said)  # type: ignore[call-overload]
    assert [each.follows_id for each in store.page(limit=1000)] == [None, 1]


def test_openai_client_lists_the_models(client: openai.OpenAI) -> None:
    assert [each.id for each in client.models.list()] == ["test-model", "fake-large", "fake-small"]
    assert client.models.retrieve("fake-large").owned_by == "fake"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")


@pytest.mark.parametrize(
    ("question", "kind", "status"),
    [
        ("x [[status=400 code=wrong]]", openai.BadRequestError, 400),
        ("x [[status=404]]", openai.NotFoundError, 404),
        ("x [[status=429]]", openai.RateLimitError, 429),
        ("x [[status=503 code=busy]]", openai.InternalServerError, 503),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_openai_client_fault_raises_the_same_error_as_at_openai(
    client: openai.OpenAI,
    question: str,
    kind: type[openai.APIStatusError],
    status: int,
    stream: bool,
) -> None:
    with pytest.raises(kind) as raised:
        client.chat.completions.create(
            model="m-1", messages=[{"role": "user", "content": question}], stream=stream
        )
    assert raised.value.status_code == status
    assert raised.value.code
    assert raised.value.type


def test_openai_client_broken_stream_raises(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="m-1", messages=[{"role": "user", "content": "x [[cut=2]]"}], stream=True
    )
    with pytest.raises(openai.APIError, match="The connection to"):
        list(stream)


def test_openai_client_wrong_token_raises_authentication_error(served: str) -> None:
    with (
        openai.OpenAI(base_url=served, api_key="no", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.models.list()
    assert raised.value.code == "invalid_api_key"


def test_openai_client_retries_only_retryable_faults(
    client: openai.OpenAI, provider: FakeProvider
) -> None:
    patient = client.with_options(max_retries=1)
    for fault, asked in (("status=500 times=1", 2), ("quota", 2), ("status=401", 1)):
        question = f"Who? [[{fault}]]"
        messages = [{"role": "user", "content": question}]
        if "times=1" in fault:
            patient.chat.completions.create(model="m-1", messages=messages)  # type: ignore[call-overload]
        else:
            with pytest.raises(openai.APIStatusError):
                patient.chat.completions.create(model="m-1", messages=messages)  # type: ignore[call-overload]
        assert provider.asked(question) == asked


def test_openai_client_that_disconnects_keeps_the_answer(
    client: openai.OpenAI, store: Store, wait_for: Callable[..., object]
) -> None:
    stream = client.chat.completions.create(
        model="m-1",
        messages=[{"role": "user", "content": "Who am I? [[delay=0.1]]"}],
        stream=True,
    )
    next(iter(stream))
    stream.close()
    record = wait_for(lambda: next((each for each in store.page(limit=1000) if each.answer), None))
    assert record.answer == "Answer to: Who am I? [[delay=0.1]]"  # type: ignore[attr-defined]
    assert record.status == "answered"  # type: ignore[attr-defined]
