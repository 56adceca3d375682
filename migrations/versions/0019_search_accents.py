"""Leave out accents of Latin letters in PostgreSQL's search index, as SQLite's has always done.

The index over an expression is built again. In a database whose encoding is not UTF-8, where
PostgreSQL cannot normalize texts, the function changes nothing.
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TABLE, SEARCH = "question_answer", "question_answer_search"
TEXT = "left(question, 100000) || ' ' || left(coalesce(answer, ''), 100000)"
WORDS = "regexp_replace(%s, '\\W+', ' ', 'g')"
# The accents after a Latin letter, in the decomposed form; the rest is composed again. Most texts
# have none, and normalizing them would double the time of the index.
ACCENTS = "'([A-Za-z])[\\u0300-\\u036f]+', '\\1', 'g'"
FOLD = (
    "CASE WHEN current_setting('server_encoding') <> 'UTF8' THEN $1 "
    "WHEN octet_length($1) = length($1) THEN $1 "
    "WHEN $1 !~ '[\\u00c0-\\u024f\\u0300-\\u036f\\u1e00-\\u1eff]' THEN $1 "
    f"ELSE normalize(regexp_replace(normalize($1, NFD), {ACCENTS}), NFC) END"
)


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION qa_without_accents(text) RETURNS text "
        "LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$ "
        f"SELECT {FOLD} $$"
    )
    _build_index(WORDS % f"qa_without_accents({TEXT})")


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    _build_index(WORDS % TEXT)
    op.execute("DROP FUNCTION qa_without_accents(text)")


def _build_index(text: str) -> None:
    op.execute(f"DROP INDEX ix_{SEARCH}")
    op.execute(
        f"CREATE INDEX ix_{SEARCH} ON {TABLE} USING gin "
        f"((to_tsvector('simple', {text}) || to_tsvector('english', {text})))"
    )
