"""Add an index of `provider_response_id`, to find the response that a request at `/v1` continues.

It has the records with a `context_digest` only: the requests at `/v1`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLE = "question_answer"
INDEX = "ix_question_answer_provider_response_id"
IN_USE = sa.text("context_digest IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        INDEX, TABLE, ["provider_response_id"], sqlite_where=IN_USE, postgresql_where=IN_USE
    )


def downgrade() -> None:
    op.drop_index(INDEX, TABLE)
