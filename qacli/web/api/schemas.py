"""The schemas of requests; pydantic validates requests with them."""

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
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    field_validator,
)
from werkzeug.http import parse_list_header

from qacli.dates import parse_when
from qacli.db.filters import Filter
from qacli.domain import Status, now
from qacli.errors import InvalidRequest
from qacli.model_options import RESERVED
from qacli.tools import NAME_PATTERN
from qacli.validation import MAX_ID, TAG_PATTERN, validate_tag, validate_text

TOOL_FORMS = "Give a name such as web_search, or an object with a type"
SCHEMA_FORMS = "Give an object, or a list of fields such as 'name, age int, bio' as text"
PRINTABLE = re.compile(r"^[\x20-\x7e]+$")
"""The value of an `Idempotency-Key`."""

OWN_FIELDS = {
    "model": "Use the field model.",
    "messages": "Use the fields question, system and follows_id.",
    "stream": "Use the field stream.",
    "response_format": "Use the field schema.",
}
"""The fields of a body in place of options with these names."""


def _check_text(text: str) -> str:
    """Refuse text that no database can store or search for; see `validate_text`."""
    try:
        validate_text(text, "it")
    except InvalidRequest as error:
        raise ValueError(error.what) from None
    return text


def _one_message(message: str) -> WrapValidator:
    """Return a validator with one message for a value that has none of several forms."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(message) from None

    return WrapValidator(check)


def _check_visible(text: str) -> str:
    """Refuse a text without a visible character."""
    if not text.strip():
        raise ValueError("it is empty")
    return text


def _check_tag(text: str) -> str:
    """Refuse an invalid tag; see `validate_tag`."""
    try:
        validate_tag(text)
    except InvalidRequest as error:
        raise ValueError(error.what) from None
    return text


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse options that have a field of their own, or that qa sets itself."""
    for name in sorted(RESERVED.keys() & options):
        todo = OWN_FIELDS.get(name, RESERVED[name])
        raise ValueError(f"{name} cannot be set as an option. {todo}")
    return options


def _parse_moment(value: object) -> object:
    """Parse an age such as `2d`; restore the plus sign of an offset, a space in a query string."""
    text = str(value)
    if re.fullmatch(r"\d+\s*[mhdw]", text):
        try:
            return parse_when(text, now())
        except InvalidRequest as error:
            raise ValueError(error.what) from None
    if re.fullmatch(r"[-+\d.e]+", text) and text.count("-") < 2:  # noqa: PLR2004 - a date has two
        raise ValueError("a number is not a date")  # pydantic would read seconds since 1970
    return re.sub(r" (\d\d:?\d\d)$", r"+\1", text)


def _in_utc(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("the date is out of range") from None


def _parse_whole_number(value: object) -> object:
    """Return a float such as 5.0, which is a whole number in JSON, as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[int, Field(ge=0, le=MAX_ID), BeforeValidator(_parse_whole_number)]
Count = Annotated[int, Field(ge=1, le=MAX_ID), BeforeValidator(_parse_whole_number)]
Seed = Annotated[int, Field(ge=-MAX_ID, le=MAX_ID), BeforeValidator(_parse_whole_number)]
Text = Annotated[str, AfterValidator(_check_text)]
ToolName = Annotated[str, Field(pattern=NAME_PATTERN)]
Visible = Annotated[
    str, Field(json_schema_extra={"pattern": r"\S"}), AfterValidator(_check_visible)
]
Tag = Annotated[str, Field(json_schema_extra={"pattern": TAG_PATTERN}), AfterValidator(_check_tag)]
MOMENTS = {"anyOf": [{"format": "date-time"}, {"pattern": r"^\d{1,4}[mhdw]$"}], "type": "string"}
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_parse_moment),
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

    question: Visible = Field(description="The question.", min_length=1, examples=["Who am I?"])
    model: Visible | None = Field(None, description="The model to ask.", min_length=1)
    system: str | None = Field(None, description="The system prompt.")
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: Count | None = Field(
        None, description="The maximum length of the answer, in tokens."
    )
    reasoning_effort: Text | None = Field(
        None, description="How much the model reasons, such as `none`, `low` or `high`."
    )
    verbosity: Text | None = Field(
        None, description="The length of the answer: `low`, `medium` or `high`."
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="Sample only from the most probable part."
    )
    seed: Seed | None = Field(None, description="The same seed gives similar answers.")
    stop: list[Text] | None = Field(
        None, description="Texts before which the answer ends.", min_length=1, max_length=100
    )
    options: Annotated[dict[str, Any], AfterValidator(_check_options)] = Field(
        default_factory=dict, description="Any other fields of the request to the model."
    )
    tools: list[Annotated[ToolName | ToolSettings, _one_message(TOOL_FORMS)]] = Field(
        default_factory=list,
        max_length=100,
        description="Tools that the provider runs: their names, or objects with their settings.",
        examples=[["web_search"]],
    )
    follows_id: Id | None = Field(
        None,
        description="The id of the record that this question follows up. The question keeps its "
        "model, system prompt and options, unless it names another.",
    )
    tags: list[Tag] = Field(default_factory=list, max_length=100, description="The record's tags.")
    answer_schema: Annotated[dict[str, Any] | str | None, _one_message(SCHEMA_FORMS)] = Field(
        None,
        alias="schema",
        description="A JSON schema that the answer must fit, or fields: `name, age int, bio`.",
    )
    stream: bool | None = Field(None, description="Send the answer as server-sent events.")


class KeyHeaders(BaseModel):
    """The header with which a request can be sent again without being asked twice."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        description="A second request of the same caller with the same key and body returns the "
        "first record.",
        json_schema_extra={"pattern": PRINTABLE.pattern},
        max_length=255,
    )

    @field_validator("idempotency_key")
    @classmethod
    def _check(cls, key: str | None) -> str | None:
        if key is not None and PRINTABLE.match(key) is None:
            raise ValueError("Give letters, digits and signs of ASCII")
        return key

    @field_validator("idempotency_key", mode="before")
    @classmethod
    def _unquote(cls, value: object) -> object:
        """Accept the key in quotes (draft-ietf-httpapi-idempotency-key-header) or without."""
        quoted = re.fullmatch(r'\s*"((?:[^"\\]|\\["\\])*)"\s*', str(value))
        return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value


class AskHeaders(KeyHeaders):
    """The headers of `POST /ask` that change the response."""

    prefer: str | None = Field(
        None, alias="Prefer", description="`respond-async`: return at once, answer later."
    )

    @property
    def is_async(self) -> bool:
        """True if the client fetches the answer later (RFC 7240)."""
        return "respond-async" in _preferences(self.prefer)


class ChangeHeaders(BaseModel):
    """The header of a request that changes a record."""

    if_match: str | None = Field(
        None,
        alias="If-Match",
        description="Only if the record has this `ETag`, or one of several; `*` is any.",
    )


class DeleteHeaders(ChangeHeaders):
    """The headers of `DELETE /qa/{id}`."""

    prefer: str | None = Field(
        None, alias="Prefer", description="`return=minimal`: 204 without a body."
    )

    @property
    def is_body_unneeded(self) -> bool:
        """True if the client needs no body (RFC 7240, section 4.2)."""
        return not _preferences(self.prefer).isdisjoint({"return=minimal", 'return="minimal"'})


def _preferences(header: str | None) -> set[str]:
    """Return the preferences of a header without their parameters (RFC 7240)."""
    items = parse_list_header(header or "")
    return {item.partition(";")[0].strip().lower() for item in items}


class TagsRequest(BaseModel):
    """The body of `PATCH /qa/{id}`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    add_tags: list[Tag] = Field(default_factory=list, max_length=100, description="Tags to add.")
    # Any text: the tags of an imported record may not be valid tags here.
    remove_tags: list[Text] = Field(
        default_factory=list, max_length=100, description="Tags to remove."
    )


class ListQuery(BaseModel):
    """The query of `GET /qas`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000, description="The maximum number of records.")
    after: Id | None = Field(None, description="Only records with a larger id.")
    before: Id | None = Field(None, description="Only records with a smaller id.")
    q: Text | None = Field(None, description="Words and quoted phrases to search for.")
    model: Text | None = Field(None, description="The model that answered.")
    endpoint: Text | None = Field(
        None, description="The host that answered, with its port if it has one."
    )
    status: Status | None = Field(None, description="The status of the record.")
    error: Text | None = Field(
        None, description="The kind of the error, for example `provider-refused`."
    )
    tag: Text | None = Field(None, description="One of the record's tags.")
    system: Text | None = Field(None, description="A part of the system prompt.")
    follows: Id | None = Field(None, description="Only follow-ups of the record with this id.")
    batch: Id | None = Field(None, description="Only records of the batch with this id.")
    request_id: Text | None = Field(
        None, description="The request that the record came in, as its `X-Request-Id`."
    )
    caller: Text | None = Field(None, description="The name of the token that asked.")
    tool: Text | None = Field(None, description="The name of a tool that the model called.")
    min_cost: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="The minimum cost in US dollars."
    )
    since: Moment | None = Field(
        None,
        description="Asked at this time or later: `2026-11-01T12:00:00Z`, or an age such as `2d`.",
    )
    until: Moment | None = Field(
        None, description="Asked before this time: `2026-11-01T12:00:00Z`, or an age such as `2d`."
    )
    order: Literal["asc", "desc", "best"] = Field(
        "asc", description="Oldest first, newest first, or best match of `q` first, in one page."
    )

    @field_validator("order")
    @classmethod
    def _check_best(cls, order: str, info: ValidationInfo) -> str:
        if order == "best":
            if info.data.get("q") is None:
                raise ValueError("order=best needs q")
            if info.data.get("after") is not None or info.data.get("before") is not None:
                raise ValueError("order=best has a single page, without after and before")
        return order

    def only(self) -> Filter:
        """Return the filter for the records that the query selects."""
        return Filter(
            search=self.q,
            since=self.since,
            until=self.until,
            model=self.model,
            endpoint=self.endpoint,
            status=self.status,
            error_kind=self.error,
            tag=self.tag,
            system=self.system,
            follows_id=self.follows,
            min_cost=self.min_cost,
            batch_id=self.batch,
            request_id=self.request_id,
            caller=self.caller,
            tool=self.tool,
        )


class ListAllQuery(ListQuery):
    """The query of `GET /qas` for JSON lines: without `limit` it returns all records."""

    limit: int | None = Field(None, ge=1, le=MAX_ID)  # type: ignore[assignment]
