"""LiteLLM's `completion` with an OpenAI-compatible endpoint."""

import json

import litellm
from cases import ERROR, PARAMETERS, PERSON, ROUNDS, Json, run_cases

litellm.suppress_debug_info = True


def cases(base_url: str, key: str) -> Json:
    common = {"model": "openai/m", "api_base": base_url, "api_key": key, "max_retries": 0}

    def ask(text: str, **options: object) -> object:
        messages = [{"role": "user", "content": text}]
        return litellm.completion(messages=messages, **common, **options)

    def tools() -> list[str]:
        tool = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
        messages: list[object] = [{"role": "user", "content": ROUNDS}]
        calls = []
        while True:
            answer = litellm.completion(messages=messages, tools=[tool], **common)
            message = answer.choices[0].message
            if not message.tool_calls:
                return [*calls, message.content]
            messages.append(message)
            for call in message.tool_calls:
                calls.append(call.function.arguments)
                result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
                messages.append(result)

    schema = {"name": "Person", "schema": PERSON, "strict": True}
    form = {"type": "json_schema", "json_schema": schema}
    return {
        "plain": lambda: ask("Who?").choices[0].message.content,
        "streamed": lambda: "".join(
            part.choices[0].delta.content or "" for part in ask("Who, streamed?", stream=True)
        ),
        "tools": tools,
        "structured": lambda: json.loads(
            ask("Who? [[schema]]", response_format=form).choices[0].message.content
        ),
        "error": lambda: ask(ERROR),
    }


run_cases(cases)
