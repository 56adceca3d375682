"""The JSON schema of a Pydantic model, in the form for OpenAI's strict mode."""

from typing import TYPE_CHECKING, Any

import openai

if TYPE_CHECKING:
    from pydantic import BaseModel


def strict_schema(model: "type[BaseModel]") -> dict[str, Any]:
    """Return the JSON schema of a model: all fields required, and no others allowed."""
    schema: Any = openai.pydantic_function_tool(model)["function"]["parameters"]
    return dict(schema)
