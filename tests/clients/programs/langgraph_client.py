"""LangGraph: LangChain's agent with tools, streamed and whole, with both APIs."""

from cases import ERROR, ROUNDS, Json, run_cases
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
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
        agent = create_agent(model, [weather], checkpointer=InMemorySaver())
        typed = create_agent(model, [], response_format=Person)

        def run(text: str, thread: str = "1") -> str:
            state = {"messages": [{"role": "user", "content": f"{name}: {text}"}]}
            result = agent.invoke(state, {"configurable": {"thread_id": thread}})
            return result["messages"][-1].text

        def stream() -> list[object]:
            state = {"messages": [{"role": "user", "content": f"{name} streamed: {ROUNDS}"}]}
            config = {"configurable": {"thread_id": "2"}}
            return [
                [part.text, [call["args"] for call in getattr(part, "tool_calls", [])]]
                for part, _ in agent.stream(state, config, stream_mode="messages")
            ]

        def structured() -> Json:
            state = {"messages": [{"role": "user", "content": f"{name}? [[tools=1]]"}]}
            return dict(typed.invoke(state)["structured_response"])

        return {
            f"{name}_tools": lambda: run(ROUNDS),
            f"{name}_streamed_tools": stream,
            f"{name}_structured": structured,
            f"{name}_error": lambda: run(ERROR, "3"),
        }

    return {
        **add("chat", ChatOpenAI(**common)),
        **add("responses", ChatOpenAI(use_responses_api=True, **common)),
    }


run_cases(cases)
