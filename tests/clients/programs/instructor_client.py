"""instructor with tool calls and with JSON schemas; it has no plain answers and no tool loop."""

import instructor
from cases import ERROR, Json, run_cases
from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def cases(base_url: str, key: str) -> Json:
    def client(mode: instructor.Mode) -> instructor.Instructor:
        return instructor.from_openai(
            OpenAI(base_url=base_url, api_key=key, max_retries=0), mode=mode
        )

    def ask(text: str, mode: instructor.Mode) -> Json:
        messages = [{"role": "user", "content": text}]
        person = client(mode).chat.completions.create(
            model="m", messages=messages, response_model=Person, max_retries=1
        )
        return person.model_dump()

    def stream() -> list[Json]:
        messages = [{"role": "user", "content": "Who, streamed? [[tools=1]]"}]
        parts = client(instructor.Mode.TOOLS).chat.completions.create_partial(
            model="m", messages=messages, response_model=Person
        )
        return [part.model_dump() for part in parts]

    return {
        "streamed": stream,
        "structured": lambda: ask("Who? [[schema]]", instructor.Mode.JSON_SCHEMA),
        "structured_by_call": lambda: ask("Who, by call? [[tools=1]]", instructor.Mode.TOOLS),
        "error": lambda: ask(
            ERROR,
            instructor.Mode.TOOLS,
        ),
    }


run_cases(cases)
