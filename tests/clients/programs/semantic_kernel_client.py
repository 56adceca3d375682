"""Semantic Kernel: `OpenAIChatCompletion` and an agent of Responses."""

import asyncio
import json

from cases import ERROR, ROUNDS, Json, run_cases
from openai import AsyncOpenAI
from pydantic import BaseModel
from semantic_kernel.agents import ChatCompletionAgent, OpenAIResponsesAgent
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
)
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import kernel_function


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class Weather:
    """A plugin."""

    @kernel_function
    def weather(self, city: str) -> str:
        """Return the weather of a city."""
        return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    def client() -> AsyncOpenAI:
        return AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0)

    def service() -> OpenAIChatCompletion:
        return OpenAIChatCompletion(ai_model_id="m", async_client=client())

    def history(text: str) -> ChatHistory:
        messages = ChatHistory()
        messages.add_user_message(text)
        return messages

    async def ask(text: str, **options: object) -> str:
        settings = OpenAIChatPromptExecutionSettings(**options)
        return str(await service().get_chat_message_content(history(text), settings))

    async def stream(text: str) -> list[str]:
        settings = OpenAIChatPromptExecutionSettings()
        parts = service().get_streaming_chat_message_content(history(text), settings)
        return [str(part) async for part in parts]

    async def tools() -> str:
        agent = ChatCompletionAgent(service=service(), name="agent", plugins=[Weather()])
        return str(await agent.get_response(messages=ROUNDS))

    def responses_agent() -> OpenAIResponsesAgent:
        return OpenAIResponsesAgent(
            ai_model_id="m", client=client(), name="agent", plugins=[Weather()], store_enabled=False
        )

    async def respond(text: str) -> str:
        return str(await responses_agent().get_response(messages=text))

    async def respond_streamed(text: str) -> list[str]:
        parts = responses_agent().invoke_stream(messages=text)
        return [str(part) async for part in parts]

    return {
        "plain": lambda: asyncio.run(ask("Who?")),
        "streamed": lambda: asyncio.run(stream("Who, streamed?")),
        "tools": lambda: asyncio.run(tools()),
        "structured": lambda: json.loads(
            asyncio.run(ask("Who? [[schema]]", response_format=Person))
        ),
        "error": lambda: asyncio.run(ask(ERROR)),
        "responses": lambda: asyncio.run(respond("Who?")),
        "responses_streamed": lambda: asyncio.run(respond_streamed("Who, streamed?")),
        "responses_tools": lambda: asyncio.run(respond(f"In Responses: {ROUNDS}")),
        "responses_error": lambda: asyncio.run(respond(ERROR)),
    }


run_cases(cases)
