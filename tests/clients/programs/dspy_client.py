"""DSPy: its `LM`, and a signature with `JSONAdapter`."""

import asyncio
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
from cases import ERROR, PARAMETERS, ROUNDS, Json, run_cases


class Describe(dspy.Signature):
    """Describe a person."""

    question: str = dspy.InputField()
    name: str = dspy.OutputField()
    age: int = dspy.OutputField()


def cases(base_url: str, key: str) -> Json:
    model = dspy.LM(
        "openai/gpt-4o-mini", api_base=base_url, api_key=key, cache=False, num_retries=0
    )

    def tools() -> list[object]:
        tool = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
        messages: list[Json] = [{"role": "user", "content": ROUNDS}]
        calls: list[object] = []
        while True:
            [answer] = model(messages=messages, tools=[tool])
            new = answer["tool_calls"] if isinstance(answer, dict) else None
            if not new:
                return [*calls, answer]
            own = [call.model_dump() for call in new]
            messages.append({"role": "assistant", "content": None, "tool_calls": own})
            for call in own:
                calls.append(call["function"]["arguments"])
                result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
                messages.append(result)

    async def stream() -> list[str]:
        listeners = [dspy.streaming.StreamListener(signature_field_name="name")]
        predict = dspy.streamify(dspy.Predict(Describe), stream_listeners=listeners)
        with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
            parts = predict(question="Who, streamed? [[schema]]")
            return [getattr(part, "chunk", None) or str(part) async for part in parts]

    def structured() -> Json:
        with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
            result = dspy.Predict(Describe)(question="Who? [[schema]]")
        return {"name": result.name, "age": result.age}

    return {
        "plain": lambda: model("Who?"),
        "streamed": lambda: asyncio.run(stream()),
        "tools": tools,
        "structured": structured,
        "error": lambda: model(ERROR),
    }


run_cases(cases)
