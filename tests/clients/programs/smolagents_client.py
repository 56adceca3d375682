"""smolagents: its `OpenAIModel`, `ToolCallingAgent` and `CodeAgent`."""

from cases import ERROR, PERSON, ROUNDS, Json, run_cases
from smolagents import (
    ChatMessage,
    CodeAgent,
    LogLevel,
    MessageRole,
    OpenAIModel,
    ToolCallingAgent,
    tool,
)


@tool
def weather(city: str) -> str:
    """Return the weather of a city.

    Args:
        city: Its name.
    """
    return f"sunny in {city} [[tools=1]]"


def cases(base_url: str, key: str) -> Json:
    model = OpenAIModel(
        model_id="m", api_base=base_url, api_key=key, client_kwargs={"max_retries": 0}
    )

    def user(text: str) -> list[ChatMessage]:
        content = [{"type": "text", "text": text}]
        return [ChatMessage(role=MessageRole.USER, content=content)]

    def tools() -> object:
        # The result of a tool is a message of the user here, so it asks for the next call itself.
        agent = ToolCallingAgent(
            tools=[weather], model=model, max_steps=3, verbosity_level=LogLevel.OFF
        )
        return agent.run(ROUNDS)

    def agent(*, streamed: bool) -> object:
        agent = CodeAgent(
            tools=[weather], model=model, stream_outputs=streamed, verbosity_level=LogLevel.OFF
        )
        code = "<code>final_answer(weather(city=chr(120)))</code>"
        return agent.run(f"Weather, {streamed}? [[text='{code}']]")

    schema = {"name": "Person", "schema": PERSON, "strict": True}
    form = {"type": "json_schema", "json_schema": schema}
    return {
        "plain": lambda: model.generate(user("Who?")).content,
        "streamed": lambda: [
            part.content for part in model.generate_stream(user("Who, streamed?"))
        ],
        "tools": tools,
        "agent": lambda: agent(streamed=False),
        "streamed_agent": lambda: agent(streamed=True),
        "structured": lambda: model.generate(user("Who? [[schema]]"), response_format=form).content,
        "error": lambda: model.generate(user(ERROR)).content,
    }


run_cases(cases)
