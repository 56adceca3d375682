"""pydantic-ai's agents with both APIs."""

import asyncio

from cases import ERROR, ROUNDS, Json, run_cases
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    def add(name: str, kind: type[OpenAIChatModel | OpenAIResponsesModel]) -> Json:
        def model() -> OpenAIChatModel | OpenAIResponsesModel:
            return kind("m", provider=OpenAIProvider(base_url=base_url, api_key=key))

        async def stream() -> str:
            async with Agent(model()).run_stream(f"{name}: Who, streamed?") as result:
                return str(await result.get_output())

        def tools() -> str:
            return Agent(model(), tools=[weather]).run_sync(f"{name}: {ROUNDS}").output

        def structured() -> Json:
            agent = Agent(model(), output_type=NativeOutput(Person))
            return dict(agent.run_sync(f"{name}? [[schema]]").output)

        return {
            f"{name}_plain": lambda: Agent(model()).run_sync(f"{name}: Who?").output,
            f"{name}_streamed": lambda: asyncio.run(stream()),
            f"{name}_tools": tools,
            f"{name}_structured": structured,
            f"{name}_error": lambda: Agent(model()).run_sync(ERROR).output,
        }

    return {**add("chat", OpenAIChatModel), **add("responses", OpenAIResponsesModel)}


run_cases(cases)
