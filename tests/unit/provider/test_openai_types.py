"""Every field of the types of the openai package is stored, or listed here as ignored."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from qacli.cost import Pricing
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.response import ChatResponse

NOT_KEPT = {
    *("object", "created", "index", "role"),  # they contain nothing about the answer
    "obfuscation",  # random letters that hide the lengths of tokens
    *("function_call", "type"),  # a function call is kept as a tool call
}


class Values:
    """Make a different value for each field, so that each can be found in the record."""

    def __init__(self) -> None:
        self.count = 1000
        self.made: dict[str, object] = {}

    def of(self, kind: Any, path: str) -> Any:  # noqa: PLR0911 - one return for each kind of type
        """Return a value of a type, with all optional fields set."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in {Union, types.UnionType}:
            return self.of(next(item for item in arguments if item is not type(None)), path)
        if origin is Literal:
            return self._note(path, arguments[0])
        if origin is list:
            return [self.of(arguments[0], path)]
        if origin is dict:
            return {f"key-{self._next()}": self.of(arguments[1], path)}
        if hasattr(kind, "__metadata__"):  # Annotated
            return self.of(arguments[0], path)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return {
                name: self.of(item.annotation, f"{path}.{name}" if path else name)
                for name, item in kind.model_fields.items()
            }
        if kind is bool:
            return True
        number = self._next()
        return self._note(path, {int: number, float: number + 0.5}.get(kind, f"text-{number}"))

    def _next(self) -> int:
        self.count += 1
        return self.count

    def _note(self, path: str, value: object) -> object:
        self.made[path] = value
        return value


def leaves(value: object) -> list[object]:
    """Return all numbers and texts in a JSON value."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@pytest.mark.parametrize("kind", [ChatCompletion, ChatCompletionChunk])
def test_read_document_every_field_of_openai_types_is_kept(kind: type[BaseModel]) -> None:
    values = Values()
    document = values.of(kind, "")
    document["choices"][0]["index"] = 0
    is_chunk = kind is ChatCompletionChunk
    part = document["choices"][0]["delta" if is_chunk else "message"]
    if is_chunk:
        part["tool_calls"][0]["index"] = 0
    kind.model_validate(document)  # it is one of the package
    response = ChatResponse()
    if is_chunk:
        ChatCompletions().read_event("message", document, response)
    else:
        ChatCompletions().read_document(document, response)
    outcome = response.outcome(Pricing())
    kept = leaves(
        [
            *(outcome.model, outcome.provider_response_id, outcome.finish_reason),
            *(outcome.prompt_tokens, outcome.completion_tokens, outcome.cached_tokens),
            *(outcome.reasoning_tokens, outcome.details),
        ]
    )
    lost = {
        path: value
        for path, value in values.made.items()
        if not NOT_KEPT & {*path.split(".")}
        and value not in kept
        and str(value) not in (outcome.answer or "")
    }
    assert lost == {}


def test_read_document_function_call_is_kept_as_a_tool_call() -> None:
    response = ChatResponse()
    call = {"name": "f", "arguments": "{}"}
    message = {"content": None, "function_call": call}
    ChatCompletions().read_document({"choices": [{"message": message}]}, response)
    assert response.details["tool_calls"][0]["function"] == call


def test_read_document_custom_tool_call_is_kept() -> None:
    response = ChatResponse()
    call = {"id": "t", "type": "custom", "custom": {"name": "f", "input": "text"}}
    message = {"content": None, "tool_calls": [call]}
    ChatCompletions().read_document({"choices": [{"message": message}]}, response)
    [kept] = response.details["tool_calls"]
    assert (kept["id"], kept["function"]) == ("t", {"name": "f", "arguments": "text"})
