"""Batches, their items, and the processes that work on them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settings", DOCUMENT, nullable=False),
        sa.Column("source", DOCUMENT, nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("name", name=op.f("uq_batch_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "batch_item",
        sa.Column("batch_id", BIG, autoincrement=False, nullable=False),
        sa.Column("position", BIG, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("payload", DOCUMENT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("worker", sa.String(length=32), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'claimed', 'answered', 'failed')",
            name=op.f("ck_batch_item_state"),
        ),
        sa.PrimaryKeyConstraint("batch_id", "position", name=op.f("pk_batch_item")),
        sa.UniqueConstraint("batch_id", "key", name=op.f("uq_batch_item_batch_id_key")),
    )
    op.create_index(
        op.f("ix_batch_item_batch_id_state_position"),
        "batch_item",
        ["batch_id", "state", "position"],
    )

    op.create_table(
        "batch_worker",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("batch_id", BIG, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("journal", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_batch_worker")),
    )
    op.create_index(op.f("ix_batch_worker_batch_id"), "batch_worker", ["batch_id"])


def downgrade() -> None:
    op.drop_table("batch_worker")
    op.drop_table("batch_item")
    op.drop_table("batch")
