"""LangChain's `ChatOpenAI` with `bind_tools` and `with_structured_output`."""

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
    model = ChatOpenAI(model="m", base_url=base_url, api_key=key, max_retries=0)

    def tools() -> list[object]:
        bound = model.bind_tools([weather])
        messages: list[object] = [HumanMessage(ROUNDS)]
        calls: list[object] = []
        while True:
            answer = bound.invoke(messages)
            if not answer.tool_calls:
                return [*calls, answer.content]
            messages.append(answer)
            for call in answer.tool_calls:
                calls.append(call["args"])
                messages.append(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]))

    return {
        "plain": lambda: model.invoke("Who?").content,
        "streamed": lambda: "".join(part.content for part in model.stream("Who, streamed?")),
        "tools": tools,
        "structured": lambda: dict(model.with_structured_output(Person).invoke("Who? [[schema]]")),
        "error": lambda: model.invoke(ERROR).content,
    }


run_cases(cases)
