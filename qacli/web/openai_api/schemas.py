"""The schemas of requests and responses of `/v1`.

Fields that shape an answer go to the provider unchanged, also unknown ones, and into the record.
Fields that would make the answer anything else than one text are refused, because a part of the
answer would be lost silently.
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
"""A pattern for at least one byte in Base64 (RFC 4648)."""


def _only(*values: object) -> Any:  # noqa: ANN401 - an annotation
    """Return the type of a field that accepts these values only."""
    allowed = {json.dumps(value) for value in values}

    def check(value: object) -> object:
        if json.dumps(value) not in allowed:
            raise PydanticCustomError(
                UNSUPPORTED,
                "This server asks for one text and records it; only {allowed} is accepted here.",
                {"allowed": " or ".join(json.dumps(item) for item in values)},
            )
        return value

    return Annotated[Any, AfterValidator(check), WithJsonSchema({"enum": list(values)})]


class TextPart(BaseModel):
    """Text in a message."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: str


class ImageUrl(BaseModel):
    """The URL of an image."""

    model_config = ConfigDict(strict=True)

    url: str = Field(
        pattern=f"^(https?://|data:image/[a-z0-9.+-]+;base64,{BASE64}$)",
        description="A `data:` URL with the image, or the URL of a file on the web.",
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

    # Clients send an assistant's message back with all the fields that it came with.
    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Content = None
    tool_calls: _only(None, []) = None  # type: ignore[valid-type]
    function_call: _only(None) = None  # type: ignore[valid-type]
    audio: _only(None) = None  # type: ignore[valid-type]


class StreamOptions(BaseModel):
    """Options for a streamed answer."""

    model_config = ConfigDict(strict=True)

    include_usage: bool | None = Field(None, description="Send the token usage in the last chunk.")


QUESTION_SCHEMA: dict[str, Any] = {
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
"""The JSON schema of a message that can be the question."""


class ChatCompletionRequest(BaseModel):
    """The body of `POST /v1/chat/completions`; other fields go to the provider unchanged."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    messages: list[Message] = Field(
        min_length=1,
        description="The last message of the user that is not empty is the question.",
        json_schema_extra={"contains": QUESTION_SCHEMA},
        examples=[[{"role": "user", "content": "Who am I?"}]],
    )
    model: str | None = Field(None, min_length=1, description="The model to ask.")
    stream: bool | None = Field(None, description="Send the answer in chunks while it arrives.")
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
    """The message with the answer."""

    role: Literal["assistant"]
    content: str
    refusal: None
    reasoning_content: str = Field("", description="The model's reasoning, if it sent any.")
    annotations: list[dict[str, Any]] = Field(
        [], description="Citations, as the provider has them."
    )


class Choice(BaseModel):
    """The answer."""

    index: Literal[0]
    message: AssistantMessage
    logprobs: None
    finish_reason: str


class PromptTokensDetails(BaseModel):
    """Parts of the prompt's tokens."""

    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    """Parts of the answer's tokens."""

    reasoning_tokens: int


class Usage(BaseModel):
    """The numbers of tokens, as counted by the provider."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = Field(PromptTokensDetails(cached_tokens=0))
    completion_tokens_details: CompletionTokensDetails = Field(
        CompletionTokensDetails(reasoning_tokens=0)
    )


class ChatCompletion(BaseModel):
    """An answer, in OpenAI's format."""

    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: list[Choice] = Field(min_length=1, max_length=1)
    usage: Usage | None
    record_id: int = Field(description="The id of the record, as in `/qa/{id}`.")


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


class ErrorBody(BaseModel):
    """The error."""

    message: str
    type: str
    param: str | None
    code: str | None
    record_id: int = Field(0, description="The id of the record with the failed question.")


class ErrorResponse(BaseModel):
    """An error, in OpenAI's format."""

    error: ErrorBody
