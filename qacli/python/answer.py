"""The answers that Python programs get, and their data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from qacli.errors import InvalidRequest, UnfitAnswer
from qacli.json_schema import AnswerSchema, extract_json

if TYPE_CHECKING:
    from pydantic import BaseModel

Data_co = TypeVar("Data_co", covariant=True)
"""The type of an answer's data: a Pydantic model, any JSON, or None without a schema."""

SchemaSource: TypeAlias = "str | Mapping[str, Any] | type[BaseModel] | None"
"""Fields or a file as for `--schema`, a JSON schema, or a Pydantic model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[Data_co]):
    """A question with its answer; as text, it is the answer.

    Attributes:
        id: The id of the record; None if it is not in the database.
        question: The question.
        answer: The answer.
        data: The answer as an instance of the Pydantic model, or as JSON; None without a schema.
        model: The model that answered, as the provider names it.
        prompt_tokens: The provider's count; None if unknown.
        completion_tokens: The provider's count; None if unknown.
        cost_usd: US dollars; None if the price is unknown.
        record: All fields of the record, as `qa show --json` prints them; see docs/record.md.
    """

    id: int | None
    question: str
    answer: str
    data: Data_co
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    record: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult(Generic[Data_co]):
    """A row of a batch with its answer, or with the reason why it has none.

    Attributes:
        key: The id of the row, or one made of its position and content.
        row: The row's values by column; None if the row is only a question.
        status: `answered` or `failed`.
        answer: The answer; of a failed row, the part that arrived, or None.
        data: See `Answer`; None also if the row has failed.
        error: The reason of the failure; None if there is an answer.
        record: See `Answer`, as for the attributes that are not in this list.
    """

    key: str
    row: Mapping[str, Any] | None
    status: str
    id: int | None
    question: str
    answer: str | None
    data: Data_co | None
    error: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    record: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DataFormat:
    """The schema of answers, and the Pydantic model that their data become.

    Attributes:
        schema: The JSON schema; None if answers are plain text.
        model: The Pydantic model; None if data are JSON.
    """

    schema: AnswerSchema | None
    model: "type[BaseModel] | None" = None

    @classmethod
    def of(cls, source: SchemaSource) -> "DataFormat":
        """Return the format for the argument `schema` of a function.

        Raises:
            InvalidRequest: The argument is not a schema.
        """
        if source is None:
            return cls(None)
        if isinstance(source, str):
            return cls(AnswerSchema.from_document(source))
        if isinstance(source, Mapping):
            return cls(AnswerSchema(dict(source)))
        from pydantic import BaseModel

        if not (isinstance(source, type) and issubclass(source, BaseModel)):
            raise InvalidRequest(
                f"The schema is {source!r}.",
                "Give a Pydantic model, a JSON schema, or fields such as 'name, age int'.",
            )
        from qacli.provider.pydantic_schema import strict_schema

        return cls(AnswerSchema(strict_schema(source)), source)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of a request for such an answer."""
        return {} if self.schema is None else {"response_format": self.schema.response_format}

    def check(self, answer: str) -> None:
        """Check that an answer fits the schema and the model.

        Raises:
            UnfitAnswer: The answer does not fit.
        """
        if self.schema is not None:
            self.schema.check(answer)
            self.parse(answer)

    def parse(self, answer: str) -> Any:  # noqa: ANN401 - an instance of the model, or JSON
        """Return the data of an answer that fits the schema.

        Raises:
            UnfitAnswer: A validator of the model refuses it.
        """
        if self.schema is None:
            return None
        text = extract_json(answer)
        if self.model is None:
            return json.loads(text)
        from pydantic import ValidationError

        try:
            return self.model.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UnfitAnswer(
                f"The answer does not fit the schema: {first['msg']} at ${place and '.'}{place}.",
                "Ask again, ask a more capable model, or loosen the schema.",
            ) from None
