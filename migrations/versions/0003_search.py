"""Add the attachments of a question, a full-text index of questions and answers, and one of tags.

SQLite keeps the index in a virtual table of its own, by triggers; PostgreSQL in an index over an
expression, which the application's search condition repeats character by character. There only
the first 100,000 characters of a text are indexed, since PostgreSQL refuses a larger document.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
TABLE, SEARCH = "question_answer", "question_answer_search"
# Words alone: PostgreSQL's parser would keep an address or a URL together.
TEXT = (
    "regexp_replace(left(question, 100000) || ' ' || left(coalesce(answer, ''), 100000), "
    "'\\W+', ' ', 'g')"
)


def upgrade() -> None:
    op.add_column(
        TABLE, sa.Column("attachments", DOCUMENT, nullable=False, server_default=sa.text("'[]'"))
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            f"CREATE INDEX ix_{SEARCH} ON {TABLE} USING gin "
            f"((to_tsvector('simple', {TEXT}) || to_tsvector('english', {TEXT})))"
        )
        op.execute(f"CREATE INDEX ix_{TABLE}_tags ON {TABLE} USING gin (tags jsonb_path_ops)")
        return
    op.execute(
        f"CREATE VIRTUAL TABLE {SEARCH} USING fts5(question, answer, content='{TABLE}', "
        "content_rowid='id', tokenize=\"porter unicode61 remove_diacritics 2\")"
    )
    new = f"INSERT INTO {SEARCH}(rowid, question, answer) VALUES (new.id, new.question, new.answer)"
    old = (
        f"INSERT INTO {SEARCH}({SEARCH}, rowid, question, answer) "
        "VALUES ('delete', old.id, old.question, old.answer)"
    )
    changed = "AFTER UPDATE OF id, question, answer"
    for name, event, actions in (
        ("insert", "AFTER INSERT", (new,)),
        ("delete", "AFTER DELETE", (old,)),
        ("update", changed, (old, new)),
    ):
        body = "; ".join(actions)
        op.execute(f"CREATE TRIGGER {SEARCH}_{name} {event} ON {TABLE} BEGIN {body}; END")
    op.execute(f"INSERT INTO {SEARCH}({SEARCH}) VALUES ('rebuild')")


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"DROP INDEX ix_{TABLE}_tags")
        op.execute(f"DROP INDEX ix_{SEARCH}")
    else:
        for name in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER {SEARCH}_{name}")
        op.execute(f"DROP TABLE {SEARCH}")
    op.drop_column(TABLE, "attachments")
