"""The schemas of responses, for the OpenAPI document; responses are not validated.

The schema of a record follows from `qacli.record_fields`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from qacli.record_fields import FIELD_TYPES, MEANINGS

RECORD: dict[str, Any] = {
    name: (Annotated[FIELD_TYPES[name], Field(description=meaning)], ...)
    for name, meaning in MEANINGS.items()
}
Record: type[BaseModel] = create_model(
    "Record",
    __doc__="A question, its status and its answer.",
    __config__=ConfigDict(extra="forbid"),
    **RECORD,
)


class Deleted(BaseModel):
    """The response of a request that has deleted a record."""

    id: int = Field(description="The id of the record.")
    deleted: Literal[True]


class WrongField(BaseModel):
    """An error in one field of a request."""

    field: str = Field(description="The field, with dots between names; empty for the whole body.")
    message: str = Field(description="The reason.")


class Problem(BaseModel):
    """An error: a problem document (RFC 9457)."""

    type: str = Field(description="`urn:qa:` and the kind.", examples=["urn:qa:not-found"])
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="The event, and the advice.")
    kind: str = Field(description="The kind, for programs.", examples=["not-found"])
    provider_status: int = Field(0, description="The HTTP status of the provider's response.")
    record_id: int = Field(0, description="The id of the record with the failed question.")
    errors: list[WrongField] = Field([], description="The invalid fields of a request.")


class Event(BaseModel):
    """A server-sent event."""

    event: str = Field("message", description="The name of the event.")
    data: str = Field(description="The content, as JSON.")


class HealthResponse(BaseModel):
    """The response of a server that is up."""

    status: Literal[200]
    message: Literal["yes"]
