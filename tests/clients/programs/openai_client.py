"""The openai package for Python: Chat Completions and Responses."""

from cases import ERROR, PARAMETERS, ROUNDS, Json, run_cases
from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def cases(base_url: str, key: str) -> Json:  # noqa: C901 - many small functions
    client = OpenAI(base_url=base_url, api_key=key, max_retries=0)
    function = {"name": "weather", "parameters": PARAMETERS, "strict": True}

    def user(text: str) -> list[object]:
        return [{"role": "user", "content": text}]

    def chat(text: str) -> str:
        return client.chat.completions.create(model="m", messages=user(text)).choices[0].message

    def stream(text: str) -> list[object]:
        usage = {"include_usage": True}
        parts = client.chat.completions.create(
            model="m", messages=user(text), stream=True, stream_options=usage
        )
        return [[choice.delta.content for choice in part.choices] for part in parts]

    def tools(text: str, *, streamed: bool) -> list[object]:
        options = {"model": "m", "tools": [{"type": "function", "function": function}]}
        messages, calls = user(text), []
        while True:
            if streamed:
                with client.chat.completions.stream(messages=messages, **options) as events:
                    message = events.get_final_completion().choices[0].message
            else:
                message = client.chat.completions.create(messages=messages, **options)
                message = message.choices[0].message
            if not message.tool_calls:
                return [*calls, message.content]
            messages.append(message)
            for call in message.tool_calls:
                calls.append(call.function.arguments)
                result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
                messages.append(result)

    def structured() -> Json:
        completion = client.chat.completions.parse(
            model="m", messages=user("Who? [[schema]]"), response_format=Person
        )
        return completion.choices[0].message.parsed.model_dump()

    def responses_stream(text: str) -> list[object]:
        events = client.responses.create(model="m", input=text, stream=True)
        return [[event.type, getattr(event, "delta", None)] for event in events]

    def responses_tools(text: str) -> list[object]:
        items, calls = user(text), []
        while True:
            tool = {"type": "function", **function}
            response = client.responses.create(model="m", input=items, tools=[tool])
            items += response.output
            new = [item for item in response.output if item.type == "function_call"]
            if not new:
                return [*calls, response.output_text]
            for call in new:
                calls.append(call.arguments)
                kind = "function_call_output"
                items.append({"type": kind, "call_id": call.call_id, "output": "sunny"})

    def responses_structured() -> Json:
        question = "Who, in Responses? [[schema]]"
        response = client.responses.parse(model="m", input=question, text_format=Person)
        return response.output_parsed.model_dump()

    return {
        "plain": lambda: chat("Who?").content,
        "streamed": lambda: stream("Who, streamed?"),
        "tools": lambda: tools(ROUNDS, streamed=False),
        "streamed_tools": lambda: tools(f"Streamed: {ROUNDS}", streamed=True),
        "structured": structured,
        "error": lambda: chat(ERROR).content,
        "responses": lambda: client.responses.create(model="m", input="Who?").output_text,
        "responses_streamed": lambda: responses_stream("Who, streamed?"),
        "responses_tools": lambda: responses_tools(f"In Responses: {ROUNDS}"),
        "responses_structured": responses_structured,
        "responses_error": lambda: responses_stream("Who? [[status=429]]"),
    }


run_cases(cases)
