"""The table of questions and answers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "question_answer",
        sa.Column("id", BIG, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("latency_ms", sa.BigInteger(), nullable=True),
        sa.Column("first_token_ms", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("provider_response_id", sa.Text(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("system", sa.Text(), nullable=True),
        sa.Column("params", DOCUMENT, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=True),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("follows_id", sa.BigInteger(), nullable=True),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("item_key", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.CheckConstraint(
            "status IN ('asking', 'answered', 'failed', 'interrupted')",
            name=op.f("ck_question_answer_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_question_answer")),
        sa.UniqueConstraint("uid", name=op.f("uq_question_answer_uid")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_question_answer_idempotency_key")),
        sa.UniqueConstraint(
            "batch_id", "item_key", name=op.f("uq_question_answer_batch_id_item_key")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_question_answer_created_at"), "question_answer", ["created_at"])
    op.create_index(op.f("ix_question_answer_follows_id"), "question_answer", ["follows_id"])


def downgrade() -> None:
    op.drop_table("question_answer")
