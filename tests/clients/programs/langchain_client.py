"""LangChain's `ChatOpenAI` with both APIs, `bind_tools` and `with_structured_output`."""

from cases import ERROR, ROUNDS, Json, run_cases
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    common = {"model": "m", "base_url": base_url, "api_key": key, "max_retries": 0}

    def add(name: str, model: ChatOpenAI) -> Json:
        def tools() -> list[object]:
            bound = model.bind_tools([weather])
            messages: list[object] = [HumanMessage(f"{name}: {ROUNDS}")]
            calls: list[object] = []
            while True:
                answer = bound.invoke(messages)
                if not answer.tool_calls:
                    return [*calls, answer.text]
                messages.append(answer)
                for call in answer.tool_calls:
                    calls.append(call["args"])
                    result = weather.invoke(call["args"])
                    messages.append(ToolMessage(result, tool_call_id=call["id"]))

        def structured() -> Json:
            return dict(model.with_structured_output(Person).invoke(f"{name}? [[schema]]"))

        return {
            f"{name}_plain": lambda: model.invoke(f"{name}: Who?").text,
            f"{name}_streamed": lambda: [
                part.text for part in model.stream(f"{name}: Who, streamed?")
            ],
            f"{name}_tools": tools,
            f"{name}_structured": structured,
            f"{name}_error": lambda: model.invoke(ERROR).text,
        }

    return {
        **add("chat", ChatOpenAI(**common)),
        **add("responses", ChatOpenAI(use_responses_api=True, **common)),
    }


run_cases(cases)
