"""Find the questions without an outcome by an index of their own, for PostgreSQL's search.

A record is stored as `asking`, then with parts of its answer, then with its outcome: the index of
the search was computed each time. Migration 0022 builds that index without those records: building
it takes long, so it is built once.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLE = "question_answer"


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"CREATE INDEX ix_{TABLE}_asking ON {TABLE} (id) WHERE status = 'asking'")


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"DROP INDEX ix_{TABLE}_asking")
