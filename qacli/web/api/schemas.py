"""What clients may send, validated by the types."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from werkzeug.http import parse_list_header

from qacli.dates import parse_when
from qacli.db.filters import Filter
from qacli.domain import Status, now
from qacli.errors import InvalidRequest
from qacli.tools import NAME_PATTERN
from qacli.validation import MAX_ID, TAG_PATTERN, validate_text


def _storable(text: str) -> str:
    """What no database can hold, none can look for either."""
    try:
        validate_text(text, "it")
    except InvalidRequest as error:
        raise ValueError(error.what) from None
    return text


def _moment(text: object) -> object:
    """`2d` ago as such; a plus sign that a query has turned into a space as it was meant."""
    given = str(text)
    if re.fullmatch(r"\d+\s*[mhdw]", given):
        try:
            return parse_when(given, now())
        except InvalidRequest as error:
            raise ValueError(error.what) from None
    if re.fullmatch(r"[-+\d.e]+", given) and given.count("-") < 2:  # noqa: PLR2004 - as a date has
        raise ValueError("a number is no moment")  # pydantic would take it for seconds since 1970
    return re.sub(r" (\d\d:?\d\d)$", r"+\1", given)


def _in_utc(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("no calendar has it") from None


def _whole(value: object) -> object:
    """5.0 is a whole number in JSON, too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[int, Field(ge=0, le=MAX_ID), BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=1, le=MAX_ID), BeforeValidator(_whole)]
Text = Annotated[str, AfterValidator(_storable)]
ToolName = Annotated[str, Field(pattern=NAME_PATTERN)]
Tag = Annotated[str, Field(pattern=TAG_PATTERN), AfterValidator(_storable)]
MOMENTS = {"anyOf": [{"format": "date-time"}, {"pattern": r"^\d{1,4}[mhdw]$"}], "type": "string"}
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_moment),
    AfterValidator(_in_utc),
    WithJsonSchema(MOMENTS),
]


class ToolSettings(BaseModel):
    """A tool that the provider runs, with its settings."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    type: ToolName


class AskRequest(BaseModel):
    """The body of `POST /ask`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    question: str = Field(
        description="What to ask.", min_length=1, pattern=r"\S", examples=["Who am I?"]
    )
    model: str | None = Field(None, description="The model to ask.", min_length=1)
    system: str | None = Field(None, description="The system prompt.")
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: Count | None = Field(None, description="The longest answer.")
    tools: list[ToolName | ToolSettings] = Field(
        default_factory=list,
        max_length=100,
        description="Tools that the provider runs: their names, or objects with their settings.",
        examples=[["web_search"]],
    )
    follows_id: Id | None = Field(None, description="The record that this one follows up.")
    tags: list[Tag] = Field(default_factory=list, max_length=100, description="The record's tags.")
    answer_schema: dict[str, Any] | str | None = Field(
        None,
        alias="schema",
        description="A JSON schema that the answer must fit, or fields: `name, age int, bio`.",
    )
    stream: bool | None = Field(None, description="The answer as server-sent events.")


class AskHeaders(BaseModel):
    """The headers of `POST /ask` that shape the answer."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        description="The same key and body again, from the same caller, is answered with the "
        "first record.",
        pattern=r"^[\x20-\x7e]+$",
        max_length=255,
    )
    prefer: str | None = Field(
        None, alias="Prefer", description="`respond-async`: accept it now, answer it later."
    )

    @field_validator("idempotency_key", mode="before")
    @classmethod
    def _unquoted(cls, value: object) -> object:
        """The key as the draft writes it, `"key"`, or as most clients do, without quotes."""
        quoted = re.fullmatch(r'\s*"((?:[^"\\]|\\["\\])*)"\s*', str(value))
        return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value

    @property
    def wants_no_wait(self) -> bool:
        """Whether the client will come back for the answer (RFC 7240)."""
        preferences = parse_list_header(self.prefer or "")
        return "respond-async" in {each.partition(";")[0].strip().lower() for each in preferences}


class TagsRequest(BaseModel):
    """The body of `PATCH /qa/{id}`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    add_tags: list[Tag] = Field(default_factory=list, max_length=100, description="Tags to add.")
    # Any: a record that was imported may have what is no tag here.
    remove_tags: list[Text] = Field(
        default_factory=list, max_length=100, description="Tags to take off."
    )


class ListQuery(BaseModel):
    """The query of `GET /qas`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000, description="How many records at the most.")
    after: Id | None = Field(None, description="Only records with a larger id.")
    before: Id | None = Field(None, description="Only records with a smaller id.")
    q: Text | None = Field(None, description="Plain words and quoted phrases that must be there.")
    model: Text | None = Field(None, description="The model that answered.")
    status: Status | None = Field(None, description="What became of the question.")
    error: Text | None = Field(None, description="The kind of the error: `provider-refused`.")
    tag: Text | None = Field(None, description="One of the record's tags.")
    system: Text | None = Field(None, description="A part of the system prompt.")
    follows: Id | None = Field(None, description="The record that they follow up.")
    batch: Id | None = Field(None, description="The batch that they came from.")
    min_cost: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="US dollars that they cost at least."
    )
    since: Moment | None = Field(None, description="Asked then or later; or `2d`, `3h` ago.")
    until: Moment | None = Field(None, description="Asked before then; or `2d`, `3h` ago.")
    order: Literal["asc", "desc", "best"] = Field(
        "asc", description="Oldest first, newest first, or what fits `q` best first, in one page."
    )

    @field_validator("order")
    @classmethod
    def _has_what_it_needs(cls, order: str, known: ValidationInfo) -> str:
        if order == "best":
            if known.data.get("q") is None:
                raise ValueError("the best of a search needs q")
            if known.data.get("after") is not None or known.data.get("before") is not None:
                raise ValueError("the best of a search is one page: after and before have no part")
        return order

    def only(self) -> Filter:
        """The records that it chooses."""
        return Filter(
            search=self.q,
            since=self.since,
            until=self.until,
            model=self.model,
            status=self.status,
            error_kind=self.error,
            tag=self.tag,
            system=self.system,
            follows_id=self.follows,
            min_cost=self.min_cost,
            batch_id=self.batch,
        )


class ListAllQuery(ListQuery):
    """The query of `GET /qas` where all of it is wanted, a line each."""

    limit: int | None = Field(None, ge=1, le=MAX_ID)  # type: ignore[assignment]
