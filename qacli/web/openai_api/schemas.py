"""What OpenAI's clients may send to `/v1`, and what they are sent.

What shapes an answer goes to the provider as it came, known here or not, and into the record. What
would make it something else than one text is refused: half of it would be lost without a word.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from qacli.validation import MAX_ID

UNSUPPORTED = "unsupported_parameter"
NO = (False,)
BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)"
"""At least one byte."""


def _only(*values: object) -> Any:  # noqa: ANN401 - an annotation
    """A field that can have no other values: with any other the answer would be no single text."""
    allowed = {json.dumps(value) for value in values}

    def check(value: object) -> object:
        if json.dumps(value) not in allowed:
            raise PydanticCustomError(
                UNSUPPORTED,
                "This server asks for one text and keeps it; here it takes only {allowed}.",
                {"allowed": " or ".join(json.dumps(each) for each in values)},
            )
        return value

    return Annotated[Any, AfterValidator(check), WithJsonSchema({"enum": list(values)})]


class TextPart(BaseModel):
    """Text in a message."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: str


class ImageUrl(BaseModel):
    """Where an image is."""

    model_config = ConfigDict(strict=True)

    url: str = Field(
        pattern=f"^(https?://|data:image/[a-z0-9.+-]+;base64,{BASE64}$)",
        description="A `data:` URL, or an address.",
    )
    detail: str | None = None


class ImagePart(BaseModel):
    """An image in a message."""

    model_config = ConfigDict(strict=True)

    type: Literal["image_url"]
    image_url: ImageUrl


Parts = Annotated[list[Annotated[TextPart | ImagePart, Discriminator("type")]], Field(min_length=1)]


def _kind_of_content(value: object) -> str:
    if value is None:
        return "nothing"
    return "parts" if isinstance(value, list) else "text"


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[Parts, Tag("parts")] | Annotated[None, Tag("nothing")],
    Discriminator(_kind_of_content),
]


class Message(BaseModel):
    """One message of a conversation."""

    # An assistant's own message comes back with whatever it was received with.
    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Content = None
    tool_calls: _only(None, []) = None  # type: ignore[valid-type]
    function_call: _only(None) = None  # type: ignore[valid-type]
    audio: _only(None) = None  # type: ignore[valid-type]


class StreamOptions(BaseModel):
    """How an answer is streamed."""

    model_config = ConfigDict(strict=True)

    include_usage: bool | None = Field(None, description="Send the usage in a last chunk.")


SAYS_SOMETHING: dict[str, Any] = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"const": "user"},
        "content": {
            "anyOf": [
                {"type": "string", "pattern": r"\S"},
                {
                    "type": "array",
                    "contains": {
                        "anyOf": [
                            {"required": ["text"], "properties": {"text": {"pattern": r"\S"}}},
                            {"required": ["image_url"]},
                        ]
                    },
                },
            ]
        },
    },
}
"""A message that can be the question."""


class ChatCompletionRequest(BaseModel):
    """The body of `POST /v1/chat/completions`; further fields go to the provider as they are."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    messages: list[Message] = Field(
        min_length=1,
        description="The last one of the user that says anything is the question.",
        json_schema_extra={"contains": SAYS_SOMETHING},
        examples=[[{"role": "user", "content": "Who am I?"}]],
    )
    model: str | None = Field(None, min_length=1, description="The model to ask.")
    stream: bool | None = Field(None, description="The answer in chunks, as it arrives.")
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=MAX_ID)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_ID)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-MAX_ID, le=MAX_ID)
    response_format: dict[str, Any] | None = None
    n: _only(None, 1) = None  # type: ignore[valid-type]
    tools: _only(None, []) = None  # type: ignore[valid-type]
    tool_choice: _only(None, "none", "auto") = None  # type: ignore[valid-type]
    functions: _only(None, []) = None  # type: ignore[valid-type]
    function_call: _only(None, "none", "auto") = None  # type: ignore[valid-type]
    audio: _only(None) = None  # type: ignore[valid-type]
    modalities: _only(None, ["text"]) = None  # type: ignore[valid-type]
    logprobs: _only(None, *NO) = None  # type: ignore[valid-type]
    top_logprobs: _only(None, 0) = None  # type: ignore[valid-type]


class AssistantMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(BaseModel):
    """The answer."""

    index: Literal[0]
    message: AssistantMessage
    logprobs: None
    finish_reason: str


class Usage(BaseModel):
    """The provider's count of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """An answer, as OpenAI has it."""

    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: list[Choice] = Field(min_length=1, max_length=1)
    usage: Usage | None
    record_id: int = Field(description="The record, as in `/qa/{id}`.")


class Model(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """The models that can be asked."""

    object: Literal["list"]
    data: list[Model]


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None
    record_id: int = Field(0, description="The record that keeps the question which failed.")


class ErrorResponse(BaseModel):
    """An error, as OpenAI has it."""

    error: ErrorBody
