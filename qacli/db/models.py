"""The classes of the tables, without queries."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from qacli.cache_key import canonical_json
from qacli.domain import ItemState, PartState, Status
from qacli.serializers import RECORD_FIELDS, to_jsonable

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


def _named(names: type[StrEnum]) -> sa.Enum:
    """Return the type of a column that stores one of the names as text."""
    return sa.Enum(
        names,
        native_enum=False,
        length=16,
        values_callable=lambda enum: [name.value for name in enum],
    )


def _one_of(names: type[StrEnum], column: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{name}'" for name in names)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


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
    """A time, always aware and in UTC in Python."""

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
        _one_of(Status, "status"),
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
    status: Status = Field(sa_column=sa.Column(_named(Status), nullable=False))
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


OUTPUTS = "outputs"
COLUMNS = "columns"
DIALECT = "dialect"


class Batch(SQLModel, table=True):
    """Many questions asked together, under a name.

    `settings` are the options that shape the answers, and may not change between two runs. `items`
    is the number of items, once all of them are in `batch_item`. `source` is the state of the file
    of questions at that time, under `columns` the names
    of its columns, and under `outputs` the state of each file of results, by path.

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
        _one_of(ItemState, "state"),
        sa.UniqueConstraint("batch_id", "key"),
        sa.Index(None, "batch_id", "state", "position"),
    )

    batch_id: int = Field(sa_column=sa.Column(BIG, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=sa.Column(BIG, primary_key=True, autoincrement=False))
    key: str = Field(sa_type=sa.Text)
    payload: dict[str, Any] = Field(sa_type=Json, nullable=False)
    state: ItemState = Field(sa_column=sa.Column(_named(ItemState), nullable=False))
    worker: str | None = Field(default=None, sa_type=sa.String(32))
    reserved_usd: float | None = Field(default=None, sa_type=sa.Double)


class BatchWorker(SQLModel, table=True):
    """A process that works on a batch.

    `seen_at` is the time of its last renewal of the lease, by the database's clock, and
    `lease_seconds` the duration of the lease. `host` and `journal` name the lock file that can
    prove that the process has ended; see `qacli.batch.lease`. `label` names it for a person.
    `LimitUser` has its requests.
    """

    __tablename__ = "batch_worker"

    uid: str = Field(sa_column=sa.Column(sa.String(32), primary_key=True))
    batch_id: int = Field(sa_column=sa.Column(BIG, nullable=False, index=True))
    host: str = Field(sa_type=sa.Text)
    journal: str = Field(sa_type=sa.Text)
    seen_at: float = Field(sa_type=sa.Double)
    lease_seconds: float = Field(
        default=60.0, sa_column=sa.Column(sa.Double, nullable=False, server_default=sa.text("60"))
    )
    label: str = Field(
        default="", sa_column=sa.Column(sa.Text, nullable=False, server_default=sa.text("''"))
    )
    started_at: float = Field(
        default=0.0, sa_column=sa.Column(sa.Double, nullable=False, server_default=sa.text("0"))
    )


class BatchPart(SQLModel, table=True):
    """A part of a batch that is sent to the provider's Batch API as one file.

    Its items have its `uid` as their worker until they are settled or released. The provider's file
    has the `uid` in its name, and the provider's batch in its metadata, so that both are found
    again. `owner` is the worker that handles the part, `round` how often its items were sent
    before, and `retry_at` the time (seconds since 1970) before which the next step is not tried.
    """

    __tablename__ = "batch_part"
    __table_args__ = (_one_of(PartState, "state"), sa.UniqueConstraint("uid"))

    id: int | None = Field(default=None, sa_column=sa.Column(BIG, primary_key=True))
    batch_id: int = Field(sa_column=sa.Column(BIG, nullable=False, index=True))
    uid: str = Field(sa_type=sa.String(32))
    state: PartState = Field(sa_column=sa.Column(_named(PartState), nullable=False))
    owner: str | None = Field(default=None, sa_type=sa.String(32))
    model: str = Field(sa_type=sa.Text)
    path: str = Field(sa_type=sa.Text)
    endpoint: str = Field(sa_type=sa.Text)
    completion_window: str = Field(sa_type=sa.Text)
    round: int = Field(default=0)
    items: int = Field(default=0)
    taken: int = Field(default=0)
    attempts: int = Field(default=0)
    retry_at: float = Field(default=0.0, sa_type=sa.Double)
    file_id: str | None = Field(default=None, sa_type=sa.Text)
    remote_id: str | None = Field(default=None, sa_type=sa.Text)
    remote_status: str | None = Field(default=None, sa_type=sa.Text)
    remote_completed: int | None = Field(default=None, sa_type=sa.BigInteger)
    remote_failed: int | None = Field(default=None, sa_type=sa.BigInteger)
    output_file_id: str | None = Field(default=None, sa_type=sa.Text)
    error_file_id: str | None = Field(default=None, sa_type=sa.Text)
    error: str | None = Field(default=None, sa_type=sa.Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    submitted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SharedLimit(SQLModel, table=True):
    """The limits that all processes with one key share for one model of one endpoint.

    All times are seconds of the database's clock, all rates are for a second. `requests_left` and
    `tokens_left` are token buckets that were filled at `filled_at`. A rate holds until its time in
    `..._until`; after it, no process knows a limit. See `qacli.db.shared_limits`.
    """

    __tablename__ = "shared_limit"
    __table_args__ = (sa.UniqueConstraint("endpoint", "key_digest", "model"),)

    id: int | None = Field(default=None, sa_column=sa.Column(BIG, primary_key=True))
    endpoint: str = Field(sa_type=sa.Text)
    key_digest: str = Field(sa_type=sa.String(32))
    model: str = Field(sa_type=sa.Text)
    request_rate: float | None = Field(default=None, sa_type=sa.Double)
    request_rate_until: float = Field(default=0.0, sa_type=sa.Double)
    requests_left: float = Field(default=0.0, sa_type=sa.Double)
    requests_granted: float | None = Field(default=None, sa_type=sa.Double)
    token_rate: float | None = Field(default=None, sa_type=sa.Double)
    token_rate_until: float = Field(default=0.0, sa_type=sa.Double)
    tokens_left: float = Field(default=0.0, sa_type=sa.Double)
    tokens_granted: float | None = Field(default=None, sa_type=sa.Double)
    filled_at: float = Field(default=0.0, sa_type=sa.Double)
    paused_until: float = Field(default=0.0, sa_type=sa.Double)
    pause_reason: str = Field(default="", sa_type=sa.Text)


class LimitUser(SQLModel, table=True):
    """A process that draws on a shared limit: a worker of a batch, with its uid, or a server.

    `seen_at` is the time of its last report, by the database's clock. `learned_rate` is its own
    part of the rate that the provider accepts, in requests a second; None if it knows no limit.
    See `qacli.db.shared_limits`.
    """

    __tablename__ = "limit_user"

    uid: str = Field(sa_column=sa.Column(sa.String(32), primary_key=True))
    limit_id: int = Field(sa_column=sa.Column(BIG, nullable=False, index=True))
    seen_at: float = Field(sa_type=sa.Double)
    learned_rate: float | None = Field(default=None, sa_type=sa.Double)
    in_flight: int = Field(default=0, sa_type=sa.Integer)
    finished: int = Field(default=0, sa_type=sa.BigInteger)


class Embedding(SQLModel, table=True):
    """The vector of a record's text, by which similar records are found.

    `model_digest` names the model, its endpoint and the text; `vector` has one signed byte for each
    dimension, and `signs` one bit. See `qacli.db.embeddings`.
    """

    record_id: int = Field(
        sa_column=sa.Column(
            BIG,
            sa.ForeignKey("question_answer.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        )
    )
    model_digest: str = Field(sa_column=sa.Column(sa.String(32), primary_key=True))
    signs: bytes = Field(sa_type=sa.LargeBinary)
    vector: bytes = Field(sa_type=sa.LargeBinary)


class BrowserSession(SQLModel, table=True):
    """A browser that has signed in. See `qacli.web.sessions`.

    `digest` is a hash of the token and of the id in the browser's cookie; neither can be computed
    from it.
    """

    __tablename__ = "browser_session"

    digest: str = Field(sa_column=sa.Column(sa.String(64), primary_key=True))
    caller: str = Field(sa_type=sa.Text)
    expires_at: datetime = Field(sa_type=UtcDateTime)
