"""The classes of the tables of records and batches, without queries.

Those that only some commands need are in `qacli.db.extra_models`: each class takes time to build.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from qacli.batch_states import MODELS, ItemState
from qacli.cache_key import canonical_json
from qacli.domain import Status
from qacli.record_fields import RECORD_FIELDS
from qacli.serializers import to_jsonable

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite generates ids only for a column whose type is exactly INTEGER.
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ANSWERED = sa.text("status = 'answered'")
"""The condition of the index of fingerprints; a query must use exactly this expression.

Only the migrations define the index: to declare its condition here would load PostgreSQL's dialect
with this module, which is a tenth of the time of `qa show`.
"""


def enum_type(names: type[StrEnum]) -> sa.Enum:
    """Return the type of a column that stores one of the names as text."""
    return sa.Enum(
        names,
        native_enum=False,
        length=16,
        values_callable=lambda enum: [name.value for name in enum],
    )


def one_of(names: type[StrEnum], column: str) -> sa.CheckConstraint:
    """Return the constraint that a column has one of the names."""
    listed = ", ".join(f"'{name}'" for name in names)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def table_of(model: type[SQLModel]) -> sa.Table:
    """Return the table of a class: a query on it takes half the time of one on the class."""
    table: sa.Table = model.__table__  # type: ignore[attr-defined]
    return table


class Json(sa.types.TypeDecorator[Any]):
    """JSON, in PostgreSQL as `jsonb`; its dialect is loaded only if it is in use."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Return the type for this dialect."""
        if dialect.name != "postgresql":
            return super().load_dialect_impl(dialect)
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """The type of columns with a time; in Python it is aware and in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC, for SQLite without the zone, which it does not have."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the database's value as an aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class QuestionAnswer(SQLModel, table=True):
    """A record: one question and its outcome. See docs/record.md.

    A long system prompt is in the `SharedValue` with the id `system_id`, and long params in that
    with `params_id`; see `qacli.db.shared_values`.
    """

    __tablename__ = "question_answer"
    __table_args__ = (
        one_of(Status, "status"),
        sa.UniqueConstraint("uid"),
        sa.UniqueConstraint("batch_id", "item_key"),
        sa.Index(None, "created_at"),
        sa.Index(None, "follows_id"),
        # The id of a deleted record is never used again.
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=sa.Column(BIG, primary_key=True))
    question: str = Field(sa_type=sa.Text)
    answer: str | None = Field(default=None, sa_type=sa.Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    status: Status = Field(sa_column=sa.Column(enum_type(Status), nullable=False))
    error: str | None = Field(default=None, sa_type=sa.Text)
    answered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    latency_ms: int | None = Field(default=None, sa_type=sa.BigInteger)
    first_token_ms: int | None = Field(default=None, sa_type=sa.BigInteger)
    model: str | None = Field(default=None, sa_type=sa.Text)
    provider_response_id: str | None = Field(default=None, sa_type=sa.Text)
    finish_reason: str | None = Field(default=None, sa_type=sa.Text)
    system: str | None = Field(default=None, sa_type=sa.Text)
    params: dict[str, Any] = Field(default_factory=dict, sa_type=Json, nullable=False)
    prompt_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    completion_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    cost_usd: float | None = Field(default=None, sa_type=sa.Double)
    follows_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    batch_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    item_key: str | None = Field(default=None, sa_type=sa.Text)
    idempotency_key: str | None = Field(default=None, sa_type=sa.Text)
    tags: list[str] = Field(default_factory=list, sa_type=Json, nullable=False)
    uid: str = Field(sa_type=sa.String(32))
    attachments: list[dict[str, Any]] = Field(
        default_factory=list,
        sa_column=sa.Column(Json, nullable=False, server_default=sa.text("'[]'")),
    )
    fingerprint: int | None = Field(default=None, sa_type=sa.BigInteger)
    caller: str | None = Field(default=None, sa_type=sa.Text)
    request_id: str | None = Field(default=None, sa_type=sa.Text)
    error_kind: str | None = Field(default=None, sa_type=sa.Text)
    corrects_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    cached_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    reasoning_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    reasoning: str | None = Field(default=None, sa_type=sa.Text)
    details: dict[str, Any] = Field(
        default_factory=dict,
        sa_column=sa.Column(Json, nullable=False, server_default=sa.text("'{}'")),
    )
    endpoint: str | None = Field(default=None, sa_type=sa.Text)
    context_digest: str | None = Field(default=None, sa_type=sa.Text)
    repeats_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    title: str | None = Field(default=None, sa_type=sa.Text)
    rating: int | None = Field(default=None, sa_type=sa.BigInteger)
    system_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    params_id: int | None = Field(default=None, sa_type=sa.BigInteger)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it; see `qacli.serializers.record_to_dict`."""
        return {name: to_jsonable(getattr(self, name)) for name in RECORD_FIELDS}

    def canonical_json(self) -> str:
        """Return all that shapes the answer as text; see `qacli.cache_key.canonical_json`."""
        return canonical_json(
            self.question, self.system, self.params, self.attachments, self.follows_id
        )


class SharedValue(SQLModel, table=True):
    """A long text that many records have in common; `digest` is its SHA-256 in hexadecimal."""

    __tablename__ = "shared_value"
    __table_args__ = (sa.UniqueConstraint("digest"),)

    id: int | None = Field(default=None, sa_column=sa.Column(BIG, primary_key=True))
    digest: str = Field(sa_type=sa.String(64))
    value: str = Field(sa_type=sa.Text)


class ToolCall(SQLModel, table=True):
    """The name of a tool that the answer of a record calls; triggers of the database keep it."""

    __tablename__ = "tool_call"
    __table_args__ = ({"sqlite_with_rowid": False},)

    name: str = Field(sa_column=sa.Column(sa.Text, primary_key=True))
    record_id: int = Field(sa_column=sa.Column(BIG, primary_key=True, autoincrement=False))


OUTPUTS, COLUMNS, DIALECT = "outputs", "columns", "dialect"
"""The keys in `Batch.source` that are not the state of the file."""


class Batch(SQLModel, table=True):
    """Many questions asked together, under a name.

    `settings` are the options that shape the answers, and may not change between two runs. `items`
    is the number of items, once all of them are in `batch_item`. `source` is the state of the file
    of questions at that time, with the names of its columns under `columns`, the form of a CSV file
    under `dialect`, and the state of each file of results, by path, under `outputs`.

    `run_options` are the options of the last `qa batch FILE`, with which other workers join without
    the file; they have no key. `max_cost_usd` is the budget, and `spent_usd` the cost of all stored
    answers, also of those that a later answer has replaced.
    """

    __tablename__ = "batch"
    __table_args__ = (sa.UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, sa_column=sa.Column(BIG, primary_key=True))
    name: str = Field(sa_type=sa.Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=Json, nullable=False)
    source: dict[str, Any] = Field(default_factory=dict, sa_type=Json, nullable=False)
    items: int | None = Field(default=None, sa_type=sa.BigInteger)
    cancelled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    run_options: dict[str, Any] = Field(
        default_factory=dict,
        sa_column=sa.Column(Json, nullable=False, server_default=sa.text("'{}'")),
    )
    max_cost_usd: float | None = Field(default=None, sa_type=sa.Double)
    spent_usd: float = Field(
        default=0.0, sa_column=sa.Column(sa.Double, nullable=False, server_default=sa.text("0"))
    )

    @property
    def file(self) -> dict[str, Any]:
        """The file of questions as it was when the items were loaded."""
        others = {OUTPUTS, COLUMNS, DIALECT}
        return {key: value for key, value in self.source.items() if key not in others}

    @property
    def models(self) -> list[str]:
        """The models that answer each question; empty if the batch has only one.

        The items of a row follow one another in this order.
        """
        models: list[str] = self.settings.get(MODELS, [])
        return models

    @property
    def columns(self) -> list[str] | None:
        """The columns of the file of questions; None if an older version has loaded the items."""
        columns: list[str] | None = self.source.get(COLUMNS)
        return columns

    @property
    def dialect(self) -> dict[str, Any]:
        """The form of a CSV file of questions; see `qacli.batch.rows.csv_dialect`."""
        dialect: dict[str, Any] = self.source.get(DIALECT, {})
        return dialect

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """The files of results, by path; see `qacli.batch.writer.ResultWriter`."""
        outputs: dict[str, dict[str, Any]] = self.source.get(OUTPUTS, {})
        return outputs


class BatchItem(SQLModel, table=True):
    """One question of a batch, before and after it is asked.

    `worker` is the id of the worker that has claimed it, and `reserved_usd` the part of the budget
    that is reserved for its answer. Its record has the same batch and key.
    """

    __tablename__ = "batch_item"
    __table_args__ = (
        one_of(ItemState, "state"),
        sa.UniqueConstraint("batch_id", "key"),
        sa.Index(None, "batch_id", "state", "position"),
    )

    batch_id: int = Field(sa_column=sa.Column(BIG, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=sa.Column(BIG, primary_key=True, autoincrement=False))
    key: str = Field(sa_type=sa.Text)
    payload: dict[str, Any] = Field(sa_type=Json, nullable=False)
    state: ItemState = Field(sa_column=sa.Column(enum_type(ItemState), nullable=False))
    worker: str | None = Field(default=None, sa_type=sa.String(32))
    reserved_usd: float | None = Field(default=None, sa_type=sa.Double)


RECORDS = table_of(QuestionAnswer)
VALUES = table_of(SharedValue)
CALLS = table_of(ToolCall)
BATCHES = table_of(Batch)
ITEMS = table_of(BatchItem)

NEWEST_FIRST = (RECORDS.c.created_at.desc(), RECORDS.c.id.desc())
"""The order by the times of questions: an imported record can have a high id and an early time."""
