"""openai-agents, with both APIs."""

import asyncio
from typing import Literal

from agents import (
    Agent,
    Runner,
    function_tool,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from cases import ERROR, ROUNDS, Json, run_cases
from openai import AsyncOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@function_tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    set_tracing_disabled(True)

    def add(api: Literal["chat_completions", "responses"]) -> Json:
        def run(agent: Agent, text: str) -> object:
            async def ask() -> object:
                async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
                    set_default_openai_client(client, use_for_tracing=False)
                    set_default_openai_api(api)
                    return (await Runner.run(agent, f"{api}: {text}")).final_output

            return asyncio.run(ask())

        async def stream() -> list[str]:
            async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
                set_default_openai_client(client, use_for_tracing=False)
                set_default_openai_api(api)
                result = Runner.run_streamed(plain, f"{api}: Who, streamed?")
                types = [event.type async for event in result.stream_events()]
                return [*types, result.final_output]

        plain = Agent(name="plain", model="m")
        with_tool = Agent(name="tools", model="m", tools=[weather])
        typed = Agent(name="typed", model="m", output_type=Person)
        return {
            f"{api}_plain": lambda: run(plain, "Who?"),
            f"{api}_streamed": lambda: asyncio.run(stream()),
            f"{api}_tools": lambda: run(with_tool, ROUNDS),
            f"{api}_structured": lambda: dict(run(typed, "Who? [[schema]]")),
            f"{api}_error": lambda: run(plain, ERROR),
        }

    return {**add("responses"), **add("chat_completions")}


run_cases(cases)
