"""Limits and budgets that the workers of a batch share, on any number of machines.

The budget and the options of a run move into the batch, so that a worker can join without them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
WORKER_INDEX = "ix_batch_worker_limit_id"


def upgrade() -> None:
    op.create_table(
        "shared_limit",
        sa.Column("id", BIG, nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("key_digest", sa.String(length=32), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("request_rate", sa.Double(), nullable=True),
        sa.Column("request_rate_until", sa.Double(), nullable=False),
        sa.Column("requests_left", sa.Double(), nullable=False),
        sa.Column("requests_granted", sa.Double(), nullable=True),
        sa.Column("token_rate", sa.Double(), nullable=True),
        sa.Column("token_rate_until", sa.Double(), nullable=False),
        sa.Column("tokens_left", sa.Double(), nullable=False),
        sa.Column("tokens_granted", sa.Double(), nullable=True),
        sa.Column("filled_at", sa.Double(), nullable=False),
        sa.Column("paused_until", sa.Double(), nullable=False),
        sa.Column("pause_reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shared_limit")),
        sa.UniqueConstraint(
            "endpoint",
            "key_digest",
            "model",
            name=op.f("uq_shared_limit_endpoint_key_digest_model"),
        ),
    )
    for column in (
        sa.Column("lease_seconds", sa.Double(), nullable=False, server_default=sa.text("60")),
        sa.Column("label", sa.Text(), nullable=False, server_default=sa.text("''")),
        sa.Column("started_at", sa.Double(), nullable=False, server_default=sa.text("0")),
        sa.Column("limit_id", BIG, nullable=True),
        sa.Column("learned_rate", sa.Double(), nullable=True),
        sa.Column("in_flight", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("finished", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    ):
        op.add_column("batch_worker", column)
    op.create_index(WORKER_INDEX, "batch_worker", ["limit_id"])
    op.add_column("batch_item", sa.Column("reserved_usd", sa.Double(), nullable=True))
    op.add_column(
        "batch", sa.Column("run_options", DOCUMENT, nullable=False, server_default=sa.text("'{}'"))
    )
    op.add_column("batch", sa.Column("max_cost_usd", sa.Double(), nullable=True))
    op.add_column(
        "batch", sa.Column("spent_usd", sa.Double(), nullable=False, server_default=sa.text("0"))
    )
    op.execute(
        "UPDATE batch SET spent_usd = COALESCE((SELECT SUM(cost_usd) FROM question_answer "
        "WHERE batch_id = batch.id), 0)"
    )


def downgrade() -> None:
    for column in ("spent_usd", "max_cost_usd", "run_options"):
        op.drop_column("batch", column)
    op.drop_column("batch_item", "reserved_usd")
    op.drop_index(WORKER_INDEX, "batch_worker")
    columns = ("finished", "in_flight", "learned_rate", "limit_id", "started_at", "label")
    for column in (*columns, "lease_seconds"):
        op.drop_column("batch_worker", column)
    op.drop_table("shared_limit")
