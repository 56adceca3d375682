"""Add `embedding`, the vectors of records, by which similar records are found.

They go with their record: in PostgreSQL by the foreign key, in SQLite by a trigger, because SQLite
enforces foreign keys only where a connection enables them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TABLE = "embedding"
TRIGGER = "embedding_delete"
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("record_id", BIG, nullable=False),
        sa.Column("model_digest", sa.String(length=32), nullable=False),
        sa.Column("signs", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", "model_digest", name=op.f("pk_embedding")),
        sa.ForeignKeyConstraint(
            ["record_id"],
            ["question_answer.id"],
            name=op.f("fk_embedding_record_id_question_answer"),
            ondelete="CASCADE",
        ),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {TRIGGER} AFTER DELETE ON question_answer "
            f"BEGIN DELETE FROM {TABLE} WHERE record_id = old.id; END"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {TRIGGER}")
    op.drop_table(TABLE)
