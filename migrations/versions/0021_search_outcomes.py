"""Leave questions without an outcome out of PostgreSQL's search index.

A record is stored as `asking`, then with parts of its answer, then with its outcome: the index was
computed each time. The few records in the state `asking` are found by an index of their own.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLE = "question_answer"
TEXT = (
    "regexp_replace(qa_without_accents(left(question, 100000) || ' ' || "
    "left(coalesce(answer, ''), 100000)), '\\W+', ' ', 'g')"
)
VECTOR = f"(to_tsvector('simple', {TEXT}) || to_tsvector('english', {TEXT}))"


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    _build_index("WHERE status <> 'asking'")
    op.execute(f"CREATE INDEX ix_{TABLE}_asking ON {TABLE} (id) WHERE status = 'asking'")


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(f"DROP INDEX ix_{TABLE}_asking")
    _build_index("")


def _build_index(condition: str) -> None:
    op.execute(f"DROP INDEX ix_{TABLE}_search")
    op.execute(f"CREATE INDEX ix_{TABLE}_search ON {TABLE} USING gin ({VECTOR}) {condition}")
