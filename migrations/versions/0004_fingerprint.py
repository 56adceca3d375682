"""Add `fingerprint`: 64 bits that are equal for questions that would get the same answer.

Existing records are filled in here, 500 at a time. The digest is computed in Python by a frozen
copy of the application's rule, because a migration must give the same result for ever. SQL that
is only printed (`qa migrate to --sql`) cannot fill it in: those records are not reused.
"""

import json
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

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


def fingerprint(*request: object) -> int:
    """Return the digest of question, system prompt, params, attachments and followed record."""
    question, system, params, attachments, follows_id = request
    values = [question, system or None, whole_numbers(params), attachments, follows_id]
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big", signed=True)


def whole_numbers(value: object) -> object:
    """Return a JSON value in which 1.0 is written as 1: PostgreSQL stores both as 1."""
    if isinstance(value, dict):
        return {name: whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
        write(connection, {row.id: fingerprint(*row[1:]) for row in rows})
        last = rows[-1].id


def write(connection: sa.Connection, fingerprints: dict[int, int]) -> None:
    """Write the fingerprints of records, by their ids."""
    ours = sa.update(RECORDS)
    if connection.dialect.name == "postgresql":
        # One statement: psycopg2 would go to the server and back for each record.
        arrays: list[Any] = [
            sa.cast(sa.literal(list(values), ARRAY(sa.BigInteger())), ARRAY(sa.BigInteger()))
            for values in (fingerprints.keys(), fingerprints.values())
        ]
        each = sa.func.unnest(*arrays).table_valued("id", "fingerprint").render_derived("each")
        ours = ours.where(RECORDS.c.id == each.c.id).values(fingerprint=each.c.fingerprint)
        connection.execute(ours)
        return
    ours = ours.where(RECORDS.c.id == sa.bindparam("record"))
    ours = ours.values(fingerprint=sa.bindparam("value"))
    values = [{"record": key, "value": value} for key, value in fingerprints.items()]
    connection.execute(ours, values)
