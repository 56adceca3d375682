"""Idempotency keys for each caller; an index of each caller's records; sessions of browsers.

The same key of two callers belongs to two questions. Records without a caller share their keys
among themselves, which takes a second index: a unique index takes each NULL for another value.

SQLite cannot drop a constraint, so the table is made again there, with its indexes and triggers,
and with the last id that was given: an id is never given twice. The full-text index refers to the
ids, which stay, so that it stays too.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLE, SEARCH, SESSIONS = "question_answer", "question_answer_search", "browser_session"
SHARED_KEY = f"uq_{TABLE}_idempotency_key"
OWN_KEY = f"uq_{TABLE}_caller_idempotency_key"
KEY_WITHOUT_CALLER = f"uq_{TABLE}_idempotency_key_without_caller"
OWN_RECORDS = f"ix_{TABLE}_caller_id"
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
NEW = f"INSERT INTO {SEARCH}(rowid, question, answer) VALUES (new.id, new.question, new.answer)"
OLD = (
    f"INSERT INTO {SEARCH}({SEARCH}, rowid, question, answer) "
    "VALUES ('delete', old.id, old.question, old.answer)"
)
TRIGGERS = {
    "insert": ("AFTER INSERT", NEW),
    "delete": ("AFTER DELETE", OLD),
    "update": ("AFTER UPDATE OF id, question, answer", f"{OLD}; {NEW}"),
}


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.drop_constraint(SHARED_KEY, TABLE, type_="unique")
    else:
        rebuild(shared_keys=False)
    for name, columns, unique, condition in (
        (OWN_KEY, ["caller", "idempotency_key"], True, "idempotency_key IS NOT NULL"),
        (KEY_WITHOUT_CALLER, ["idempotency_key"], True, "caller IS NULL"),
        (OWN_RECORDS, ["caller", "id"], False, "caller IS NOT NULL"),
    ):
        where = sa.text(condition)
        options = {"sqlite_where": where, "postgresql_where": where}
        op.create_index(name, TABLE, columns, unique=unique, **options)
    op.create_table(
        SESSIONS,
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f(f"pk_{SESSIONS}")),
    )


def downgrade() -> None:
    """Go back to keys that all callers share: of records with the same key the oldest keeps it."""
    op.drop_table(SESSIONS)
    for name in (OWN_RECORDS, KEY_WITHOUT_CALLER, OWN_KEY):
        op.drop_index(name, TABLE)
    op.execute(
        f"UPDATE {TABLE} SET idempotency_key = NULL WHERE idempotency_key IS NOT NULL "
        f"AND id NOT IN (SELECT min(id) FROM {TABLE} WHERE idempotency_key IS NOT NULL "
        "GROUP BY idempotency_key)"
    )
    if op.get_context().dialect.name == "postgresql":
        op.create_unique_constraint(SHARED_KEY, TABLE, ["idempotency_key"])
    else:
        rebuild(shared_keys=True)


def rebuild(*, shared_keys: bool) -> None:
    """Make SQLite's table again.

    Args:
        shared_keys: Whether an idempotency key is unique among all callers.
    """
    op.execute(
        f"CREATE TEMPORARY TABLE last_id AS SELECT seq FROM sqlite_sequence WHERE name = '{TABLE}'"
    )
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER {SEARCH}_{name}")
    options = {"copy_from": table(shared_keys=not shared_keys), "recreate": "always"}
    with op.batch_alter_table(TABLE, **options) as batch:
        if shared_keys:
            batch.create_unique_constraint(SHARED_KEY, ["idempotency_key"])
        else:
            batch.drop_constraint(SHARED_KEY, type_="unique")
    op.execute(f"DELETE FROM sqlite_sequence WHERE name = '{TABLE}'")
    op.execute(f"INSERT INTO sqlite_sequence (name, seq) SELECT '{TABLE}', seq FROM last_id")
    op.execute("DROP TABLE last_id")
    op.create_index(f"ix_{TABLE}_created_at", TABLE, ["created_at"])
    op.create_index(f"ix_{TABLE}_follows_id", TABLE, ["follows_id"])
    answered = sa.text("status = 'answered'")
    op.create_index(
        f"ix_{TABLE}_fingerprint_id", TABLE, ["fingerprint", "id"], sqlite_where=answered
    )
    for name, (event, actions) in TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {SEARCH}_{name} {event} ON {TABLE} BEGIN {actions}; END")


def table(*, shared_keys: bool) -> sa.Table:
    """Describe the table as the revisions before this one have made it, column by column."""
    keys = [sa.UniqueConstraint("idempotency_key", name=SHARED_KEY)] if shared_keys else []
    return sa.Table(
        TABLE,
        sa.MetaData(),
        sa.Column("id", BIG, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("latency_ms", sa.BigInteger(), nullable=True),
        sa.Column("first_token_ms", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("provider_response_id", sa.Text(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("system", sa.Text(), nullable=True),
        sa.Column("params", DOCUMENT, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=True),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("follows_id", sa.BigInteger(), nullable=True),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("item_key", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("attachments", DOCUMENT, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("fingerprint", sa.BigInteger(), nullable=True),
        sa.Column("caller", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('asking', 'answered', 'failed', 'interrupted')",
            name=f"ck_{TABLE}_status",
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{TABLE}"),
        sa.UniqueConstraint("uid", name=f"uq_{TABLE}_uid"),
        *keys,
        sa.UniqueConstraint("batch_id", "item_key", name=f"uq_{TABLE}_batch_id_item_key"),
        sqlite_autoincrement=True,
    )
