"""Haystack's chat generators, and its `Agent` with tools."""

import json
from typing import Annotated

from cases import ERROR, PERSON, ROUNDS, Json, run_cases
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret


def weather(city: Annotated[str, "The city"]) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    common = {"model": "m", "api_base_url": base_url, "api_key": Secret.from_token(key)}

    def add(name: str, kind: type, structure: Json) -> Json:
        def ask(text: str, **options: object) -> str:
            generator = kind(**common, max_retries=0, **options)
            return generator.run([ChatMessage.from_user(f"{name}: {text}")])["replies"][0].text

        def stream() -> list[object]:
            parts: list[str] = []
            text = ask("Who, streamed?", streaming_callback=lambda part: parts.append(part.content))
            return [*parts, text]

        def tools() -> list[object]:
            generator = kind(**common, max_retries=0)
            agent = Agent(chat_generator=generator, tools=[create_tool_from_function(weather)])
            result = agent.run([ChatMessage.from_user(f"{name}: {ROUNDS}")])
            return [message.text for message in result["messages"]]

        return {
            f"{name}_plain": lambda: ask("Who?"),
            f"{name}_streamed": stream,
            f"{name}_tools": tools,
            f"{name}_structured": lambda: json.loads(
                ask("Who? [[schema]]", generation_kwargs=structure)
            ),
            f"{name}_error": lambda: ask(ERROR),
        }

    schema = {"name": "Person", "schema": PERSON, "strict": True}
    form = {"type": "json_schema", **schema}
    return {
        **add(
            "chat",
            OpenAIChatGenerator,
            {"response_format": {"type": "json_schema", "json_schema": schema}},
        ),
        **add("responses", OpenAIResponsesChatGenerator, {"text": {"format": form}}),
    }


run_cases(cases)
