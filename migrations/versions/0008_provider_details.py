"""Add the columns for the other parts of a provider's answer.

`cached_tokens` and `reasoning_tokens` are parts of the two counts of tokens, `reasoning` is the
model's reasoning, `details` everything else in the response, `endpoint` the provider's host.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLE = "question_answer"
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
COLUMNS = ("cached_tokens", "reasoning_tokens", "reasoning", "details", "endpoint")


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("cached_tokens", sa.BigInteger(), nullable=True))
    op.add_column(TABLE, sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True))
    op.add_column(TABLE, sa.Column("reasoning", sa.Text(), nullable=True))
    details = sa.Column("details", JSON, nullable=False, server_default=sa.text("'{}'"))
    op.add_column(TABLE, details)
    op.add_column(TABLE, sa.Column("endpoint", sa.Text(), nullable=True))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column(TABLE, name)
