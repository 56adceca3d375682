"""The schemas of responses, for the OpenAPI document; responses are not validated.

The schema of a record follows from `qacli.serializers`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from qacli.serializers import FIELD_TYPES, MEANINGS

RECORD: dict[str, Any] = {
    name: (Annotated[FIELD_TYPES[name], Field(description=meaning)], ...)
    for name, meaning in MEANINGS.items()
}
Record: type[BaseModel] = create_model(
    "Record",
    __doc__="A question and what became of it.",
    __config__=ConfigDict(extra="forbid"),
    **RECORD,
)


class WrongField(BaseModel):
    """An error in one field of a request."""

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
    """The response of a server that is up."""

    status: Literal[200]
    message: Literal["yes"]
