"""Ask, and print the stream: the shortest program with the openai package."""

import sys

from openai import OpenAI

stream = OpenAI().chat.completions.create(
    model=sys.argv[1], messages=[{"role": "user", "content": sys.argv[2]}], stream=True
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)  # noqa: T201
print()  # noqa: T201
