"""Add `shared_value`: long system prompts, tools and schemas, each stored once for many records.

`system_id` is the value that a record has as its `system`; `params_id` is a JSON object that
belongs to its `params`. Older records have theirs in the columns `system` and `params`, as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLE, VALUES = "question_answer", "shared_value"
COLUMNS = ("system_id", "params_id")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        VALUES,
        sa.Column("id", BIG, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{VALUES}")),
        sa.UniqueConstraint("digest", name=op.f(f"uq_{VALUES}_digest")),
    )
    for name in COLUMNS:
        op.add_column(TABLE, sa.Column(name, sa.BigInteger(), nullable=True))
        # To find out whether a value is still in use.
        in_use = sa.text(f"{name} IS NOT NULL")
        options = {"sqlite_where": in_use, "postgresql_where": in_use}
        op.create_index(f"ix_{TABLE}_{name}", TABLE, [name], **options)


def downgrade() -> None:
    value = f"(SELECT value FROM {VALUES} WHERE id = %s)"
    op.execute(f"UPDATE {TABLE} SET system = {value % 'system_id'} WHERE system_id IS NOT NULL")
    if op.get_context().dialect.name == "postgresql":
        params = f"params || CAST({value % 'params_id'} AS jsonb)"
    else:
        # Both are texts of JSON objects; that of `params` may be empty.
        long = value % "params_id"
        params = (
            f"CASE WHEN params = '{{}}' THEN {long} ELSE "
            f"substr({long}, 1, length({long}) - 1) || ', ' || substr(params, 2) END"
        )
    op.execute(f"UPDATE {TABLE} SET params = {params} WHERE params_id IS NOT NULL")
    for name in reversed(COLUMNS):
        op.drop_index(f"ix_{TABLE}_{name}", TABLE)
        op.drop_column(TABLE, name)
    op.drop_table(VALUES)
