"""Full-text search: the words of a query as SQLite FTS5 and PostgreSQL conditions."""

import re
import unicodedata
from dataclasses import dataclass
from functools import reduce
from typing import Any

import sqlalchemy as sa

from qacli.db.models import QuestionAnswer
from qacli.validation import sanitize_text

RECORDS = QuestionAnswer.__table__  # type: ignore[attr-defined]


PUNCTUATION = "?!.,;:()[]{}'\u2018\u2019\u201c\u201d\u2026"
"""What stands around a word and is not meant."""


MAX_TERMS = 100
"""Of more the first count: a database's expressions can only be so deep."""


MAX_TERM_LENGTH = 500
"""Of a longer one the start counts: no index takes much more for a word, no LIKE for a pattern."""


WORD_SEPARATORS = "'\u2019.,;:!?()-"
"""What a search need not look for: `well-known` is as good as `well known`."""


COMMON_MATCHES = 20_000
"""What more records have is not ranked in SQLite: for that it would read all of them."""


MAX_RANKED = 1000
"""How many of the newest matches are ranked: a common word must not make a search slow."""


UNSPACED_SCRIPTS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
    "\U00020000-\U0003ffff]"
)
"""Scripts that put no spaces between words: an index of words holds whole sentences of them."""


# The expression that the index in migrations/versions/0003_search.py is made of.
POSTGRES_TEXT = (
    "regexp_replace(left(question, 100000) || ' ' || left(coalesce(answer, ''), 100000), "
    "'\\W+', ' ', 'g')"
)


POSTGRES_VECTOR = (
    f"(to_tsvector('simple', {POSTGRES_TEXT}) || to_tsvector('english', {POSTGRES_TEXT}))"
)


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """A word or a phrase that must be there."""

    text: str

    @property
    def is_indexed(self) -> bool:
        """Whether the index finds it."""
        return (
            len(self.text) < MAX_TERM_LENGTH
            and not UNSPACED_SCRIPTS.search(self.text)
            and any(map(_is_indexed, self.text))
        )

    @property
    def is_literal(self) -> bool:
        """Whether it must be looked for as it is written: the index sees only a part of it."""
        return not self.is_indexed or not all(
            _is_indexed(each) or each.isspace() or each in WORD_SEPARATORS for each in self.text
        )


def _is_indexed(character: str) -> bool:
    """Whether every index takes it for a part of a word: it was one in the Unicode of 2002."""
    if character.isascii():
        return character.isalnum()
    return unicodedata.ucd_3_2_0.category(character)[0] in "LN"


def parse_terms(search: str) -> list[SearchTerm]:
    """The terms of a search: quoted phrases as they are, words without the marks around them."""
    found: dict[str, None] = {}
    for phrase, word in re.findall(r'"([^"]*)"|([^\s"]+)', sanitize_text(search)):
        text = phrase.strip() if phrase else word.strip(PUNCTUATION) or word
        if text:
            found[text[:MAX_TERM_LENGTH]] = None
        if len(found) == MAX_TERMS:
            break
    return [SearchTerm(text) for text in found]


def search_condition(search: str, *, sqlite: bool) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a record must meet to match the words of a search."""
    wanted = parse_terms(search)
    indexed = [term for term in wanted if term.is_indexed]
    conditions: list[sa.ColumnElement[bool]] = []
    if indexed:
        conditions += [_sqlite_condition(indexed)] if sqlite else _postgres_condition(indexed)
    conditions += [_escape_like(term.text) for term in wanted if term.is_literal]
    return conditions


def fts5_query(wanted: list[SearchTerm]) -> str:
    """The terms for SQLite's index: each a quoted phrase, so that nothing in it is an operator.

    There is no quotation mark in any of them: those ended the terms.
    """
    return " AND ".join(f'"{term.text}"' for term in wanted)


def tsquery(term: SearchTerm) -> sa.ColumnElement[Any]:
    """The term for PostgreSQL's index: as it is written, or as its stem.

    What is a letter depends on the database's locale, so the database takes the term apart, too.
    """
    words = sa.func.regexp_replace(term.text, r"\W+", " ", "g")
    written = sa.func.phraseto_tsquery(sa.text("'simple'"), words)
    stem = sa.func.phraseto_tsquery(sa.text("'english'"), words)
    return written.op("||")(stem)


def sqlite_matches(wanted: list[SearchTerm], *, newest: int | None = None) -> sa.TextClause:
    """The ids that SQLite's index finds: all of them, or so many of the newest."""
    query = "SELECT rowid FROM question_answer_search WHERE question_answer_search MATCH :match"
    if newest is not None:
        # The index is read from its end, and no further than needed.
        query += f" ORDER BY rowid DESC LIMIT {newest:d}"
    return sa.text(query).bindparams(match=fts5_query(wanted))


def _sqlite_condition(wanted: list[SearchTerm]) -> sa.ColumnElement[bool]:
    chosen: sa.ColumnElement[bool] = RECORDS.c.id.in_(sqlite_matches(wanted))
    return chosen


def _postgres_condition(wanted: list[SearchTerm]) -> list[sa.ColumnElement[bool]]:
    """All terms as one query, and literally those of which its locale leaves nothing."""
    queries = [tsquery(term) for term in wanted]
    every = reduce(lambda all_, each: all_.op("&&")(each), queries)
    vector: sa.ColumnElement[Any] = sa.literal_column(POSTGRES_VECTOR)
    # What numnode counts is a constant to the planner: it drops the alternatives.
    in_index = sa.or_(sa.func.numnode(every) == 0, vector.op("@@", is_comparison=True)(every))
    return [
        in_index,
        *(
            sa.or_(sa.func.numnode(query) > 0, _escape_like(term.text))
            for term, query in zip(wanted, queries, strict=True)
        ),
    ]


def rank(search: str, *, sqlite: bool) -> sa.ColumnElement[Any] | None:
    """How well a record fits, the best the lowest; None where the index cannot tell.

    On SQLite it is only known in a query that reads `question_answer_search`.
    """
    wanted = [term for term in parse_terms(search) if term.is_indexed]
    if not wanted:
        return None
    if sqlite:
        return sa.literal_column("bm25(question_answer_search, 2.0, 1.0)")
    vector: sa.ColumnElement[Any] = sa.literal_column(POSTGRES_VECTOR)
    query = tsquery(wanted[0])
    for term in wanted[1:]:
        query = query.op("||")(tsquery(term))
    by_length = 2  # a match says more about a short text
    return -sa.func.ts_rank(vector, query, by_length)


def _escape_like(text: str) -> sa.ColumnElement[bool]:
    return sa.or_(
        RECORDS.c.question.icontains(text, autoescape=True),
        RECORDS.c.answer.icontains(text, autoescape=True),
    )
