"""The schemas of requests and responses of `/v1`, for the OpenAPI document.

Requests are not validated with them: the provider validates them. They name what this
server reads itself; all other fields are the provider's.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Messages = Annotated[list[dict[str, Any]], Field(min_length=1)]


class _Open(BaseModel):
    """An object with any other fields."""

    model_config = ConfigDict(extra="allow")


class _ModelRequest(_Open):
    """A request with a model."""

    model: str | None = Field(
        None, description="The model to ask; `default`, or none, is the server's."
    )
    stream: Any = Field(None, description="Send the answer in chunks while it arrives.")


class ChatCompletionRequest(_ModelRequest):
    """The body of `POST /v1/chat/completions`; all fields go to the provider unchanged."""

    messages: Messages = Field(
        description="The newest text of the user, or the newer results of tools, is the question.",
        examples=[[{"role": "user", "content": "Who am I?"}]],
    )


class ResponseRequest(_ModelRequest):
    """The body of `POST /v1/responses`; all fields go to the provider unchanged."""

    input: Annotated[str, Field(min_length=1)] | Messages = Field(
        description="A text, or items as in Responses; the question is as in a chat completion.",
        examples=["Who am I?"],
    )


class CompletionRequest(_ModelRequest):
    """The body of `POST /v1/completions`; all fields go to the provider unchanged."""

    prompt: Any = Field(description="The text to complete, which is the question.", examples=["A"])


class EmbeddingRequest(_Open):
    """The body of `POST /v1/embeddings`; all fields go to the provider unchanged."""

    model: str | None = Field(None, description="As in a chat completion.")
    input: Any = Field(description="The texts.", examples=["A"])


class ChatCompletion(_Open):
    """An answer, as the provider sends it."""

    id: str
    object: str
    model: str
    choices: list[Any]


class ModelResponse(_Open):
    """A response, as the provider sends it."""

    id: str
    object: str
    status: str
    output: list[Any]


class DeletedResponse(BaseModel):
    """A response that was deleted."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(_Open):
    """The items that a response answers."""

    object: Literal["list"]
    data: list[Any]
    has_more: bool


class Completion(_Open):
    """A text, as the provider sends it."""

    choices: list[Any]


class Embeddings(_Open):
    """Vectors, as the provider sends them."""

    data: list[Any]


class Model(BaseModel):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """A list of models."""

    object: Literal["list"]
    data: list[Model]


class ErrorBody(_Open):
    """The error."""

    message: str
    type: str | None
    param: str | None
    code: str | None
    record_id: int = Field(0, description="The id of the record with the failed question.")


class ErrorResponse(_Open):
    """An error in OpenAI's format: of this server, or as the provider sends it."""

    error: ErrorBody
