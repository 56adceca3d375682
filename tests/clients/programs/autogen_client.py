"""AutoGen's `OpenAIChatCompletionClient`, alone and in an `AssistantAgent`."""

import asyncio
from collections.abc import Awaitable, Callable

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from cases import ERROR, ROUNDS, Json, run_cases
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


async def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    info = {
        "vision": False,
        "function_calling": True,
        "json_output": True,
        "structured_output": True,
        "family": "unknown",
    }

    def run(use: Callable[[OpenAIChatCompletionClient], Awaitable[object]]) -> object:
        async def start() -> object:
            client = OpenAIChatCompletionClient(
                model="m", base_url=base_url, api_key=key, model_info=info, max_retries=0
            )
            try:
                return await use(client)
            finally:
                await client.close()

        return asyncio.run(start())

    async def ask(client: OpenAIChatCompletionClient, text: str, **options: object) -> object:
        return (await client.create([UserMessage(content=text, source="user")], **options)).content

    async def stream(client: OpenAIChatCompletionClient) -> list[object]:
        messages = [UserMessage(content="Who, streamed?", source="user")]
        parts = [part async for part in client.create_stream(messages)]
        return [part if isinstance(part, str) else part.content for part in parts]

    async def tools(client: OpenAIChatCompletionClient, text: str, *, streamed: bool) -> str:
        agent = AssistantAgent(
            "agent",
            client,
            tools=[weather],
            max_tool_iterations=9,
            model_client_stream=streamed,
        )
        if streamed:
            messages = [message async for message in agent.run_stream(task=text)]
            return messages[-1].messages[-1].content
        return (await agent.run(task=text)).messages[-1].content

    return {
        "plain": lambda: run(lambda client: ask(client, "Who?")),
        "streamed": lambda: run(stream),
        "tools": lambda: run(lambda client: tools(client, ROUNDS, streamed=False)),
        "streamed_tools": lambda: run(
            lambda client: tools(client, f"Streamed: {ROUNDS}", streamed=True)
        ),
        "structured": lambda: run(
            lambda client: ask(client, "Who? [[schema]]", json_output=Person)
        ),
        "error": lambda: run(lambda client: ask(client, ERROR)),
    }


run_cases(cases)
