"""Add `repeats_id`, the record whose question is asked again, and `title` and `rating` of users."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLE = "question_answer"
INDEX = "ix_question_answer_repeats_id"
IN_USE = sa.text("repeats_id IS NOT NULL")


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("repeats_id", sa.BigInteger(), nullable=True))
    op.add_column(TABLE, sa.Column("title", sa.Text(), nullable=True))
    op.add_column(TABLE, sa.Column("rating", sa.BigInteger(), nullable=True))
    # Few records repeat another, so the index is small.
    op.create_index(INDEX, TABLE, ["repeats_id"], sqlite_where=IN_USE, postgresql_where=IN_USE)


def downgrade() -> None:
    op.drop_index(INDEX, TABLE)
    for name in ("rating", "title", "repeats_id"):
        op.drop_column(TABLE, name)
