"""The shapes of what the server sends, for its document; nothing is validated on its way out.

A record's shape is that of the table's own fields, so the two cannot differ.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from qacli.db.models import QuestionAnswer
from qacli.serializers import RECORD_FIELDS

MEANINGS = {
    "id": "As in `/qa/{id}`; never given twice.",
    "question": "What was asked, byte for byte.",
    "answer": "The text received; partial where it was cut off, null where nothing came.",
    "created_at": "When it was asked, in UTC.",
    "status": "What became of the question.",
    "error_kind": "The kind of the error, as in a problem.",
    "error": "The provider's own message, without secrets.",
    "answered_at": "When the answer was complete.",
    "latency_ms": "Milliseconds until the answer was complete.",
    "first_token_ms": "Milliseconds until its first piece came.",  # nosec B105 - the key is the name of a field, not a secret
    "model": "The model that answered, as the provider names it.",
    "provider_response_id": "The provider's own name for the answer.",
    "finish_reason": "How the answer ended, in the provider's words.",
    "system": "The system prompt.",
    "params": "The model asked for, and whatever else shaped the answer.",
    "prompt_tokens": "The provider's count; null where unknown.",
    "completion_tokens": "The provider's count; null where unknown.",
    "cost_usd": "US dollars; null where the price is unknown.",
    "follows_id": "The record that this one follows up.",
    "corrects_id": "The record whose answer did not fit its schema; this one asks for it again.",
    "batch_id": "The batch that it came from.",
    "item_key": "Its key in that batch.",
    "idempotency_key": "The `Idempotency-Key` that it was asked with.",
    "tags": "Its tags.",
    "uid": "The question's own name, unique in any database.",
    "attachments": "What was put before the question: `name`, `size` and `sha256` each.",
    "caller": "The name of the token that asked, which owns the record.",
    "request_id": "The HTTP request that it came in, as the log names it.",
}
"""What each field of a record means."""


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in RECORD_FIELDS:
        kind = int if name == "id" else QuestionAnswer.model_fields[name].annotation
        fields[name] = (Annotated[kind, Field(description=MEANINGS[name])], ...)
    return fields


Record: type[BaseModel] = create_model(
    "Record",
    __doc__="A question and what became of it.",
    __config__=ConfigDict(extra="forbid"),
    **_fields(),
)


class WrongField(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Which field, with dots between names; empty is the whole.")
    message: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="`urn:qa:` and the kind.", examples=["urn:qa:not-found"])
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, and what to do about it.")
    kind: str = Field(description="What a program may decide by.", examples=["not-found"])
    provider_status: int = Field(0, description="The status that the provider answered with.")
    record_id: int = Field(0, description="The record that keeps the question which failed.")
    errors: list[WrongField] = Field([], description="Each wrong field of a request.")


class Event(BaseModel):
    """A server-sent event."""

    event: str = Field("message", description="Its name.")
    data: str = Field(description="JSON.")


class HealthResponse(BaseModel):
    """All is well."""

    status: Literal[200]
    message: Literal["yes"]
