"""Add `context_digest`: the digest of all messages of a request at `/v1`, to find its thread.

Older records have none; their threads are found by their texts, as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLE = "question_answer"
INDEX = "ix_question_answer_context_digest"
IN_USE = sa.text("context_digest IS NOT NULL")


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("context_digest", sa.Text(), nullable=True))
    # Most records are no requests at /v1.
    op.create_index(INDEX, TABLE, ["context_digest"], sqlite_where=IN_USE, postgresql_where=IN_USE)


def downgrade() -> None:
    op.drop_index(INDEX, TABLE)
    op.drop_column(TABLE, "context_digest")
