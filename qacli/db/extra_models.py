"""The classes of the tables that only some commands need; see `qacli.db.models`."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from qacli.batch_states import PartState
from qacli.db.models import BIG, UtcDateTime, enum_type, one_of, table_of


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
    __table_args__ = (one_of(PartState, "state"), sa.UniqueConstraint("uid"))

    id: int | None = Field(default=None, sa_column=sa.Column(BIG, primary_key=True))
    batch_id: int = Field(sa_column=sa.Column(BIG, nullable=False, index=True))
    uid: str = Field(sa_type=sa.String(32))
    state: PartState = Field(sa_column=sa.Column(enum_type(PartState), nullable=False))
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
    `..._until`; after it, the limit is unknown. See `qacli.db.shared_limits`.
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
    part of the rate that the provider accepts, in requests a second; None if no limit is known.
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


class RateCount(SQLModel, table=True):
    """The events of one client in the present window of one limit. See `qacli.db.rate_counts`.

    `ends_at` is in seconds since 1970, by the database's clock.
    """

    __tablename__ = "rate_count"

    digest: str = Field(sa_column=sa.Column(sa.String(64), primary_key=True))
    events: int = Field(sa_type=sa.BigInteger)
    ends_at: float = Field(sa_column=sa.Column(sa.Double, nullable=False, index=True))


WORKERS = table_of(BatchWorker)
PARTS = table_of(BatchPart)
LIMITS = table_of(SharedLimit)
USERS = table_of(LimitUser)
EMBEDDINGS = table_of(Embedding)
SESSIONS = table_of(BrowserSession)
RATE_COUNTS = table_of(RateCount)
