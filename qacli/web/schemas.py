"""What clients may send, validated by the types."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from qacli.exchange import MAX_ID, Status

Id = Annotated[int, Field(ge=0, le=MAX_ID)]


class AskBody(BaseModel):
    """The body of `POST /ask`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    question: str = Field(description="What to ask.", min_length=1, examples=["Who am I?"])
    model: str | None = Field(None, description="The model to ask.", min_length=1)
    system: str | None = Field(None, description="The system prompt.")
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=MAX_ID, description="The longest answer.")
    follows_id: Id | None = Field(None, description="The record that this one follows up.")
    tags: list[str] = Field(default_factory=list, max_length=100)


class QasQuery(BaseModel):
    """The query of `GET /qas`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000, description="How many records at the most.")
    after: Id | None = Field(None, description="Only records with a larger id.")
    before: Id | None = Field(None, description="Only records with a smaller id.")
    q: str | None = Field(None, description="Plain words and quoted phrases that must be there.")
    model: str | None = Field(None, description="The model that answered.")
    status: Status | None = Field(None, description="What became of the question.")
    tag: str | None = Field(None, description="One of the record's tags.")
    since: AwareDatetime | None = Field(None, description="Asked then or later.")
    until: AwareDatetime | None = Field(None, description="Asked before then.")
    order: Literal["asc", "desc"] = Field("asc", description="Oldest first, or newest first.")
