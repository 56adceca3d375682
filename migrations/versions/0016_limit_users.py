"""Processes that draw on a shared limit have a table: a server is no worker of a batch."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORKER_INDEX = "ix_batch_worker_limit_id"


def columns() -> tuple[sa.Column, ...]:
    return (
        sa.Column("limit_id", BIG, nullable=True),
        sa.Column("learned_rate", sa.Double(), nullable=True),
        sa.Column("in_flight", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("finished", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )


def upgrade() -> None:
    op.create_table(
        "limit_user",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("limit_id", BIG, nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("learned_rate", sa.Double(), nullable=True),
        sa.Column("in_flight", sa.Integer(), nullable=False),
        sa.Column("finished", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_limit_user")),
    )
    op.create_index("ix_limit_user_limit_id", "limit_user", ["limit_id"])
    # A worker that runs now reports again within a second, so no rows are copied.
    op.drop_index(WORKER_INDEX, "batch_worker")
    for column in reversed(columns()):
        op.drop_column("batch_worker", column.name)


def downgrade() -> None:
    for column in columns():
        op.add_column("batch_worker", column)
    op.create_index(WORKER_INDEX, "batch_worker", ["limit_id"])
    op.drop_table("limit_user")
