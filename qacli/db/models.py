"""The tables. No queries here."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from qacli.cache_key import canonical_json
from qacli.domain import ItemState, Status
from qacli.serializers import RECORD_FIELDS, to_jsonable

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite counts ids up by itself only in a column that is exactly INTEGER.
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ANSWERED = sa.text("status = 'answered'")
"""Which records the index of fingerprints holds; a query must say it in the same words.

The index is in the migrations alone: to say here which records it holds would load PostgreSQL's
dialect wherever this is loaded, a tenth of all that `qa show` takes.
"""


def _named(names: type[StrEnum]) -> sa.Enum:
    """A column that holds one of the names, as text."""
    return sa.Enum(
        names,
        native_enum=False,
        length=16,
        values_callable=lambda each: [name.value for name in each],
    )


def _one_of(names: type[StrEnum], column: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{name}'" for name in names)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


class Json(sa.types.TypeDecorator[Any]):
    """JSON; in PostgreSQL `jsonb`, and its dialect is loaded only where it is in use."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The type that the database has for it."""
        if dialect.name != "postgresql":
            return super().load_dialect_impl(dialect)
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment: aware and in UTC in Python, whatever the database makes of it."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To the database: SQLite has no zones, so it gets UTC without one."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class QuestionAnswer(SQLModel, table=True):
    """One question and what became of it. See docs/record.md."""

    __tablename__ = "question_answer"
    __table_args__ = (
        _one_of(Status, "status"),
        sa.UniqueConstraint("uid"),
        sa.UniqueConstraint("batch_id", "item_key"),
        sa.Index(None, "created_at"),
        sa.Index(None, "follows_id"),
        # An id that was deleted is never given to another record.
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

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON has it; see `qacli.serializers.record_to_dict`."""
        return {name: to_jsonable(getattr(self, name)) for name in RECORD_FIELDS}

    def canonical_json(self) -> str:
        """The question and all that shapes its answer; see `qacli.cache_key.canonical_json`."""
        return canonical_json(
            self.question, self.system, self.params, self.attachments, self.follows_id
        )


OUTPUTS = "outputs"


class Batch(SQLModel, table=True):
    """Many questions asked together, under a name.

    `settings` is what shapes the answers and may not change between two runs; `items` is how many
    there are, once all of them are in `batch_item`; `source` is the file as it was then, and under
    `outputs` the files of results that this batch has written, by path.
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

    @property
    def file(self) -> dict[str, Any]:
        """The file of questions as it was when the items were loaded."""
        return {key: value for key, value in self.source.items() if key != OUTPUTS}

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """The files of results, by path; see `qacli.batch.writer.ResultWriter`."""
        found: dict[str, dict[str, Any]] = self.source.get(OUTPUTS, {})
        return found


class BatchItem(SQLModel, table=True):
    """One question of a batch, before and after it is asked.

    `worker` is who has claimed it. Its record, once there is one, has the same batch and key.
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


class BatchWorker(SQLModel, table=True):
    """A process that works on a batch.

    `seen_at` is when it last renewed its lease, by the database's clock. `host` and `journal` name
    the lock file that can prove earlier that the process has ended, see `qacli.batch.lease`.
    """

    __tablename__ = "batch_worker"

    uid: str = Field(sa_column=sa.Column(sa.String(32), primary_key=True))
    batch_id: int = Field(sa_column=sa.Column(BIG, nullable=False, index=True))
    host: str = Field(sa_type=sa.Text)
    journal: str = Field(sa_type=sa.Text)
    seen_at: float = Field(sa_type=sa.Double)


class BrowserSession(SQLModel, table=True):
    """A browser that has signed in. See `qacli.web.sessions`.

    `digest` is made of the token and of the id that the browser keeps in its cookie: neither can be
    told from it.
    """

    __tablename__ = "browser_session"

    digest: str = Field(sa_column=sa.Column(sa.String(64), primary_key=True))
    caller: str = Field(sa_type=sa.Text)
    expires_at: datetime = Field(sa_type=UtcDateTime)
