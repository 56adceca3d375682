"""pydantic-ai's agents with Chat Completions."""

import asyncio

from cases import ERROR, ROUNDS, Json, run_cases
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    def model() -> OpenAIChatModel:
        return OpenAIChatModel("m", provider=OpenAIProvider(base_url=base_url, api_key=key))

    async def stream() -> str:
        async with Agent(model()).run_stream("Who, streamed?") as result:
            return str(await result.get_output())

    return {
        "plain": lambda: Agent(model()).run_sync("Who?").output,
        "streamed": lambda: asyncio.run(stream()),
        "tools": lambda: Agent(model(), tools=[weather]).run_sync(ROUNDS).output,
        "structured": lambda: dict(
            Agent(model(), output_type=NativeOutput(Person)).run_sync("Who? [[schema]]").output
        ),
        "error": lambda: Agent(model()).run_sync(ERROR).output,
    }


run_cases(cases)
