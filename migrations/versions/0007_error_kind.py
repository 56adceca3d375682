"""Add `error_kind` and `corrects_id`, and fill them from the records.

Until this revision `error` began with the kind: `provider-refused: The provider answered 400`. The
kind moves to its own column where it is one of the kinds that qa had then, and `error` keeps the
message. A record corrects the one that it follows up where that has an answer which did not fit its
schema, and the question is the text with which qa then asked again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLE = "question_answer"
KINDS = (
    *("unexpected", "invalid-request", "not-configured", "not-found", "unauthorized", "forbidden"),
    *("still-asking", "rate-limited", "busy", "key-rejected", "provider-refused"),
    *("provider-unavailable", "provider-unreachable", "provider-timeout", "broken-answer"),
    *("unfit-answer", "database", "schema-mismatch", "record-refused", "outbox-unwritable"),
    "interrupted",
)
REPAIR = " Answer again, with nothing but JSON that fits the schema."


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("error_kind", sa.Text(), nullable=True))
    op.add_column(TABLE, sa.Column("corrects_id", sa.BigInteger(), nullable=True))
    find = "strpos" if op.get_context().dialect.name == "postgresql" else "instr"
    colon = f"{find}(error, ': ')"
    kinds = ", ".join(f"'{kind}'" for kind in KINDS)
    op.execute(
        f"UPDATE {TABLE} SET error_kind = substr(error, 1, {colon} - 1), "
        f"error = substr(error, {colon} + 2) "
        f"WHERE {colon} > 1 AND substr(error, 1, {colon} - 1) IN ({kinds})"
    )
    op.execute(
        f"UPDATE {TABLE} SET corrects_id = follows_id WHERE EXISTS ("
        f"SELECT 1 FROM {TABLE} AS unfit WHERE unfit.id = {TABLE}.follows_id "
        f"AND unfit.error_kind = 'unfit-answer' AND {TABLE}.question = unfit.error || '{REPAIR}')"
    )


def downgrade() -> None:
    op.execute(
        f"UPDATE {TABLE} SET error = error_kind || ': ' || coalesce(error, '') "
        "WHERE error_kind IS NOT NULL"
    )
    op.drop_column(TABLE, "corrects_id")
    op.drop_column(TABLE, "error_kind")
