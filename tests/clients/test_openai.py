"""The openai package, as it is with the provider and through the server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from conftest import KEY
from flask_fixtures import TOKEN
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_provider import FakeProvider

    from qacli.db.records import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

VOLATILE = {"id", "created", "created_at", "call_id"}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
ROUNDS = "Weather? [[tools=3]]"


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def client(served: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served, api_key=TOKEN, max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def direct(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    """Return a client of the provider itself."""
    with openai.OpenAI(base_url=provider.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def stable(value: Any) -> Any:
    """Return a response without what is new in each."""
    if isinstance(value, BaseModel):
        value = value.to_dict()  # type: ignore[attr-defined]
    if isinstance(value, dict):
        return {name: stable(item) for name, item in value.items() if name not in VOLATILE}
    return [stable(item) for item in value] if isinstance(value, list) else value


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_chat_answer_matches_that_of_the_provider(
    client: openai.OpenAI, direct: openai.OpenAI
) -> None:
    both = [
        side.chat.completions.create(model="m", messages=user("Who?"), n=2, logprobs=True)
        for side in (client, direct)
    ]
    assert stable(both[0]) == stable(both[1])
    assert both[0].choices[1].message.content == "Answer to: Who? (1)"


def test_chat_stream_matches_that_of_the_provider(
    client: openai.OpenAI, direct: openai.OpenAI
) -> None:
    both = [
        list(
            side.chat.completions.create(
                model="m",
                messages=user("Who?"),
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        for side in (client, direct)
    ]
    assert [stable(chunk) for chunk in both[0]] == [stable(chunk) for chunk in both[1]]


@pytest.mark.parametrize("stream", [False, True])
def test_chat_tools_over_three_rounds_make_four_records(
    client: openai.OpenAI, store: Store, stream: bool
) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
    messages = user(ROUNDS)
    for _ in range(3):
        if stream:
            with client.chat.completions.stream(
                model="m", messages=messages, tools=tools
            ) as events:
                message = events.get_final_completion().choices[0].message
        else:
            message = (
                client.chat.completions.create(model="m", messages=messages, tools=tools)
                .choices[0]
                .message
            )  # type: ignore[assignment]
        assert message.tool_calls
        [call] = message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "x"}  # type: ignore[union-attr]
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    last = client.chat.completions.create(model="m", messages=messages, tools=tools)
    assert last.choices[0].message.content == f"Answer to: {ROUNDS}"
    records = store.page(limit=9)
    result = 'weather({"city": "x"}) -> sunny'
    assert [record.question for record in records] == [ROUNDS, result, result, result]
    assert [record.answer for record in records[:3]] == ['weather({"city": "x"})'] * 3


def test_chat_structured_output_is_parsed(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(
        model="m", messages=user("Who? [[schema]]"), response_format=Person
    )
    assert completion.choices[0].message.parsed == Person(name="x", age=1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_error_matches_that_of_the_provider(
    client: openai.OpenAI,
    direct: openai.OpenAI,
    status: int,
    kind: type[openai.APIStatusError],
) -> None:
    bodies = []
    for side in (client, direct):
        with pytest.raises(kind) as raised:
            side.chat.completions.create(model="m", messages=user(f"Who? [[status={status}]]"))
        bodies.append((raised.value.body, raised.value.code, raised.value.message))
    assert bodies[0] == bodies[1]


def test_responses_answer_matches_that_of_the_provider(
    client: openai.OpenAI, direct: openai.OpenAI
) -> None:
    both = [side.responses.create(model="m", input="Who?") for side in (client, direct)]
    assert stable(both[0]) == stable(both[1])
    assert both[0].output_text == "Answer to: Who?"


def test_responses_stream_matches_that_of_the_provider(
    client: openai.OpenAI, direct: openai.OpenAI
) -> None:
    both = [
        [event.type for event in side.responses.create(model="m", input="Who?", stream=True)]
        for side in (client, direct)
    ]
    assert both[0] == both[1]
    assert both[0][-1] == "response.completed"


def test_responses_tools_over_three_rounds_make_four_records(
    client: openai.OpenAI, store: Store
) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}]
    items = user(ROUNDS)
    for _ in range(3):
        output = client.responses.create(model="m", input=items, tools=tools).output
        [call] = [item for item in output if item.type == "function_call"]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        items += [*(item.to_dict() for item in output), result]
    assert client.responses.create(model="m", input=items, tools=tools).output_text
    questions = [record.question for record in store.page(limit=9)]
    assert questions == [ROUNDS, *['weather({"city": "x"}) -> sunny'] * 3]


def test_responses_structured_output_is_parsed(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="m", input="Who? [[schema]]", text_format=Person)
    assert response.output_parsed == Person(name="x", age=1)


def test_embeddings_match_those_of_the_provider(client: openai.OpenAI) -> None:
    result = client.embeddings.create(model="e", input=["a", "b"])
    assert [item.index for item in result.data] == [0, 1]
