"""Parts of batches at the provider's Batch API."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STATES = (
    *("filling", "ready", "uploading", "uploaded", "creating", "submitted", "ended", "taken"),
    *("done", "failed"),
)


def upgrade() -> None:
    names = ", ".join(f"'{name}'" for name in STATES)
    op.create_table(
        "batch_part",
        sa.Column("id", BIG, nullable=False),
        sa.Column("batch_id", BIG, nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.Double(), nullable=False),
        sa.Column("file_id", sa.Text(), nullable=True),
        sa.Column("remote_id", sa.Text(), nullable=True),
        sa.Column("remote_status", sa.Text(), nullable=True),
        sa.Column("remote_completed", sa.BigInteger(), nullable=True),
        sa.Column("remote_failed", sa.BigInteger(), nullable=True),
        sa.Column("output_file_id", sa.Text(), nullable=True),
        sa.Column("error_file_id", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"state IN ({names})", name=op.f("ck_batch_part_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_part")),
        sa.UniqueConstraint("uid", name=op.f("uq_batch_part_uid")),
    )
    op.create_index("ix_batch_part_batch_id", "batch_part", ["batch_id"])


def downgrade() -> None:
    op.drop_table("batch_part")
