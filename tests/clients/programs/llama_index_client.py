"""LlamaIndex's `OpenAI` and `OpenAILike`, and its `FunctionAgent`."""

import asyncio
from collections.abc import Callable

from cases import ERROR, ROUNDS, Json, run_cases
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    options = {"api_base": base_url, "api_key": key, "max_retries": 0}

    def like() -> OpenAI:
        return OpenAILike(
            model="m",
            is_chat_model=True,
            is_function_calling_model=True,
            should_use_structured_outputs=True,
            **options,
        )

    def add(name: str, new_model: Callable[[], OpenAI]) -> Json:
        model = new_model()

        def user(text: str) -> list[ChatMessage]:
            return [ChatMessage(role="user", content=f"{name}: {text}")]

        async def tools(*, streaming: bool) -> str:
            agent = FunctionAgent(tools=[weather], llm=new_model(), streaming=streaming)
            result = await agent.run(f"{name}, {streaming}: {ROUNDS}")
            return str(result)

        def structured() -> Json:
            typed = model.as_structured_llm(Person)
            return typed.chat(user("Who? [[schema]]")).raw.model_dump()

        return {
            f"{name}_plain": lambda: str(model.chat(user("Who?"))),
            f"{name}_streamed": lambda: [
                part.delta for part in model.stream_chat(user("Who, streamed?"))
            ],
            f"{name}_tools": lambda: asyncio.run(tools(streaming=False)),
            f"{name}_streamed_tools": lambda: asyncio.run(tools(streaming=True)),
            f"{name}_structured": structured,
        }

    error = {"error": lambda: str(like().complete(ERROR))}
    known = add("openai", lambda: OpenAI(model="gpt-4o-mini", **options))
    return {**known, **add("like", like), **error}


run_cases(cases)
