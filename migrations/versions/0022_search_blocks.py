"""Find the newest matches of a common word on PostgreSQL without reading all of them.

The search index has the block of each record's id too: 8,192 ids are a block. So a search can read
the matches of the newest blocks only. The words come from a function, for two reasons: they are
computed once, not twice, and the planner knows that they take long. Questions without an outcome
are not in the index; see migration 0021.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TABLE, SEARCH = "question_answer", "question_answer_search"

# It calls no other function of qa: PostgreSQL calls it without the search path when it analyzes.
VECTOR = r"""
CREATE FUNCTION qa_search_vector(question text, answer text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 30000 AS $$
DECLARE
    words text := left(question, 100000) || ' ' || left(coalesce(answer, ''), 100000);
BEGIN
    IF octet_length(words) <> length(words) AND current_setting('server_encoding') = 'UTF8' THEN
        IF words ~ '[\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff]' THEN
            words := normalize(regexp_replace(
                normalize(words, NFD), '([A-Za-z])[\u0300-\u036f]+', '\1', 'g'), NFC);
        END IF;
    END IF;
    words := regexp_replace(words, '\W+', ' ', 'g');
    RETURN to_tsvector('pg_catalog.simple', words) || to_tsvector('pg_catalog.english', words);
END $$
"""

# The expression of migration 0019.
TEXT = (
    "regexp_replace(qa_without_accents(left(question, 100000) || ' ' || "
    "left(coalesce(answer, ''), 100000)), '\\W+', ' ', 'g')"
)


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(VECTOR)
    # Records can be read while an index is built, but not once one is dropped.
    op.execute(
        f"CREATE INDEX ix_{SEARCH}_new ON {TABLE} USING gin "
        "(qa_search_vector(question, answer), (ARRAY[id >> 13])) WHERE status <> 'asking'"
    )
    op.execute(f"DROP INDEX ix_{SEARCH}")
    op.execute(f"ALTER INDEX ix_{SEARCH}_new RENAME TO ix_{SEARCH}")


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(f"DROP INDEX ix_{SEARCH}")
    op.execute(
        f"CREATE INDEX ix_{SEARCH} ON {TABLE} USING gin "
        f"((to_tsvector('simple', {TEXT}) || to_tsvector('english', {TEXT})))"
    )
    op.execute("DROP FUNCTION qa_search_vector(text, text)")
