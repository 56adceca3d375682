"""A fingerprint of each question and all that shapes its answer, to find the same one again.

Only `qacli.exchange` can tell it, so what is there already gets its own here, some hundred records
at a time. SQL that is printed (`qa migrate --sql`) cannot: those records are not reused.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from qacli.exchange import canonical, fingerprint

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE, INDEX = "question_answer", "ix_question_answer_fingerprint_id"
AT_ONCE = 500
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
RECORDS = sa.table(
    TABLE,
    sa.column("id", sa.BigInteger()),
    sa.column("question", sa.Text()),
    sa.column("system", sa.Text()),
    sa.column("params", DOCUMENT),
    sa.column("attachments", DOCUMENT),
    sa.column("follows_id", sa.BigInteger()),
    sa.column("fingerprint", sa.BigInteger()),
)


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("fingerprint", sa.BigInteger(), nullable=True))
    if not context.is_offline_mode():
        fill(op.get_bind())
    answered = sa.text("status = 'answered'")
    op.create_index(
        INDEX, TABLE, ["fingerprint", "id"], sqlite_where=answered, postgresql_where=answered
    )


def downgrade() -> None:
    op.drop_index(INDEX, TABLE)
    op.drop_column(TABLE, "fingerprint")


def fill(connection: sa.Connection) -> None:
    """Give each record its fingerprint."""
    shaping = [RECORDS.c[name] for name in ("question", "system", "params", "attachments")]
    page = (
        sa.select(RECORDS.c.id, *shaping, RECORDS.c.follows_id)
        .where(RECORDS.c.id > sa.bindparam("last"))
        .order_by(RECORDS.c.id)
        .limit(AT_ONCE)
    )
    last = 0
    while rows := connection.execute(page, {"last": last}).all():
        write(connection, {row.id: fingerprint(canonical(*row[1:])) for row in rows})
        last = rows[-1].id


def write(connection: sa.Connection, found: dict[int, int]) -> None:
    """Write the fingerprints of records, by their ids."""
    ours = sa.update(RECORDS)
    if connection.dialect.name == "postgresql":
        # One statement: psycopg2 would go to the server and back for each record.
        arrays: list[Any] = [
            sa.cast(sa.literal(list(values), ARRAY(sa.BigInteger())), ARRAY(sa.BigInteger()))
            for values in (found.keys(), found.values())
        ]
        each = sa.func.unnest(*arrays).table_valued("id", "fingerprint").render_derived("each")
        ours = ours.where(RECORDS.c.id == each.c.id).values(fingerprint=each.c.fingerprint)
        connection.execute(ours)
        return
    ours = ours.where(RECORDS.c.id == sa.bindparam("record"))
    ours = ours.values(fingerprint=sa.bindparam("value"))
    connection.execute(ours, [{"record": key, "value": value} for key, value in found.items()])
