"""llm with a model that extra-openai-models.yaml names, as its users add one."""

import json
import os
import tempfile
from pathlib import Path

from cases import ERROR, PERSON, ROUNDS, Json, run_cases

os.environ["LLM_USER_PATH"] = tempfile.mkdtemp()

import llm


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def cases(base_url: str, key: str) -> Json:
    home = Path(os.environ["LLM_USER_PATH"])
    (home / "keys.json").write_text(json.dumps({"qa": key}))
    (home / "extra-openai-models.yaml").write_text(
        f"- model_id: m\n  model_name: m\n  api_base: {base_url}\n  api_key_name: qa\n"
        "  supports_tools: true\n  supports_schema: true\n"
    )
    model = llm.get_model("m")

    def tools(text: str, *, streamed: bool) -> str:
        return model.chain(text, tools=[weather], stream=streamed).text()

    return {
        "plain": lambda: model.prompt("Who?", stream=False).text(),
        "streamed": lambda: list(model.prompt("Who, streamed?")),
        "tools": lambda: tools(ROUNDS, streamed=False),
        "streamed_tools": lambda: tools(f"Streamed: {ROUNDS}", streamed=True),
        "structured": lambda: model.prompt("Who? [[schema]]", schema=PERSON, stream=False).text(),
        "error": lambda: model.prompt(ERROR, stream=False).text(),
    }


run_cases(cases)
