"""Full-text search: the words of a query as SQLite FTS5 and PostgreSQL conditions."""

import re
import unicodedata
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import sqlalchemy as sa

from qacli.db.models import RECORDS
from qacli.validation import sanitize_text

PUNCTUATION = "?!.,;:()[]{}'\u2018\u2019\u201c\u201d\u2026"
"""Characters that are removed around a word."""

MAX_TERMS = 100
"""Terms of a search; more are ignored, because databases limit the depth of an expression."""

MAX_TERM_LENGTH = 500
"""Characters of a term; more are ignored, because the indexes and LIKE have similar limits."""

WORD_SEPARATORS = "'\u2019.,;:!?()-"
"""Characters in a term that need not be searched: `well-known` also matches `well known`."""

COMMON_MATCHES = 20_000
"""SQLite ranks no more matches than this, because it would have to read all of them."""

MAX_RANKED = 500
"""The number of newest matches that are ranked, so that a common word does not make it slow."""


UNSPACED_SCRIPTS = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
    "\U00020000-\U0003ffff]"
)
"""Scripts without spaces between words: in an index, a whole sentence of them is one word."""


DECOMPOSED = re.compile("[A-Za-z][\u0300-\u036f]+")
"""A Latin letter with accents as characters of their own."""


class _TsQuery(sa.types.UserDefinedType[Any]):
    """PostgreSQL's type of a query, without loading its dialect."""

    cache_ok = True

    def get_col_spec(self, **_options: object) -> str:
        """Return its name in SQL."""
        return "tsquery"


TSQUERY = _TsQuery()
BIGINTS: sa.ARRAY[int] = sa.ARRAY(sa.BigInteger())

# The expressions and the condition of the index in migrations/versions/0022_search_blocks.py.
POSTGRES_VECTOR = "qa_search_vector(question, answer)"
POSTGRES_INDEXED = "question_answer.status <> 'asking'"
BLOCK_BITS = 13
POSTGRES_BLOCK = f"(ARRAY[question_answer.id >> {BLOCK_BITS}])"


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """A word or a phrase that a record must contain.

    Attributes:
        text: The word or the phrase.
        is_prefix: A longer word matches too: the user has written a `*` after it.
    """

    text: str
    is_prefix: bool = False

    @property
    def is_indexed(self) -> bool:
        """True if the index can find it."""
        return (
            len(self.text) < MAX_TERM_LENGTH
            and not re.search(UNSPACED_SCRIPTS, self.text)
            and any(map(_is_indexed, self.text))
        )

    @property
    def is_literal(self) -> bool:
        """True if the texts must be searched, because the index has only a part of the term."""
        return not self.is_indexed or not all(
            _is_indexed(char) or char.isspace() or char in WORD_SEPARATORS for char in self.text
        )


def _is_indexed(character: str) -> bool:
    """Return whether every index takes it for a part of a word: it was a letter in Unicode 3.2."""
    if character.isascii():
        return character.isalnum()  # False for no character
    return unicodedata.ucd_3_2_0.category(character)[0] in "LN"


def parse_terms(search: str) -> list[SearchTerm]:
    """Return the terms of a search: quoted phrases, and words without `PUNCTUATION` around them.

    A `*` at the end of a word or a phrase makes its last word the start of a longer one.
    """
    terms: dict[SearchTerm, None] = {}
    for phrase, word in re.findall(r'"([^"]*)"|([^\s"]+)', sanitize_text(search)):
        text = phrase.strip() if phrase else word.strip(PUNCTUATION) or word
        start = text.rstrip("*")
        is_prefix = start != text and _is_indexed(start[-1:])
        text = start if is_prefix else text
        if text:
            term = SearchTerm(text[:MAX_TERM_LENGTH], is_prefix)
            # The index has a letter with its accent as one character.
            composed = replace(term, text=DECOMPOSED.sub(_composed, term.text))
            terms[term if composed.is_literal else composed] = None
        if len(terms) == MAX_TERMS:
            break
    return list(terms)


def _composed(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", match[0])


def search_condition(
    search: str, *, sqlite: bool, blocks: range | None = None
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a record must meet to match the words of a search.

    Args:
        search: The words.
        sqlite: The database is SQLite.
        blocks: Only records of these blocks of ids match; see `qacli.db.search_steps`.
    """
    terms = parse_terms(search)
    indexed = [term for term in terms if term.is_indexed]
    conditions: list[sa.ColumnElement[bool]] = []
    if indexed:
        conditions += (
            [_sqlite_condition(indexed)] if sqlite else _postgres_condition(indexed, blocks)
        )
    conditions += [_contains(term.text) for term in terms if term.is_literal]
    return conditions


def fts5_query(terms: list[SearchTerm]) -> str:
    """Return the query for SQLite's index: each term as a quoted phrase, so without operators.

    No term contains a quotation mark: `parse_terms` splits there.
    """
    return " AND ".join(f'"{term.text}"{" *" * term.is_prefix}' for term in terms)


def tsquery(term: SearchTerm) -> sa.ColumnElement[Any]:
    """Return the query for PostgreSQL's index: the term as it is written, or its stem.

    The database splits the term into words, because its locale defines what a letter is.
    """
    words = sa.func.regexp_replace(sa.func.qa_without_accents(term.text), r"\W+", " ", "g")
    written = sa.func.phraseto_tsquery(sa.text("'simple'"), words)
    if term.is_prefix:
        # The last word of the query becomes a prefix; a query without words stays empty.
        start = sa.cast(written, sa.Text).op("||")(":*")
        empty = sa.func.numnode(written) == 0
        return sa.case((empty, written), else_=sa.cast(start, TSQUERY))
    stem = sa.func.phraseto_tsquery(sa.text("'english'"), words)
    return written.op("||")(stem)


def sqlite_matches(terms: list[SearchTerm], *, newest: int | None = None) -> sa.TextClause:
    """Return the query of the ids in SQLite's index: all matches, or this number of the newest."""
    query = "SELECT rowid FROM question_answer_search WHERE question_answer_search MATCH :match"
    if newest is not None:
        # The index is read from its end, and no further than needed.
        query += f" ORDER BY rowid DESC LIMIT {newest:d}"
    return sa.text(query).bindparams(match=fts5_query(terms))


def _sqlite_condition(terms: list[SearchTerm]) -> sa.ColumnElement[bool]:
    condition: sa.ColumnElement[bool] = RECORDS.c.id.in_(sqlite_matches(terms))
    return condition


def _postgres_condition(
    terms: list[SearchTerm], blocks: range | None
) -> list[sa.ColumnElement[bool]]:
    """Return one query of all terms, and a literal search for terms without words in its locale."""
    queries = [tsquery(term) for term in terms]
    every = reduce(lambda left, right: left.op("&&")(right), queries)
    vector: sa.ColumnElement[Any] = sa.literal_column(POSTGRES_VECTOR)
    matches = vector.op("@@", is_comparison=True)(every)
    in_flight = sa.select(RECORDS.c.id).where(
        sa.text("status = 'asking'"), *_between(blocks), matches
    )
    # The planner computes numnode once, and drops the alternatives that it excludes. An array of
    # ids, because it would move a condition that two alternatives have in common out of the OR.
    found = sa.or_(
        sa.func.numnode(every) == 0,
        sa.and_(sa.text(POSTGRES_INDEXED), matches, *_in_blocks(blocks)),
        RECORDS.c.id == sa.any_(sa.func.array(in_flight.correlate(None).scalar_subquery())),
    )
    return [
        found,
        *_between(blocks),
        *(
            sa.or_(sa.func.numnode(query) > 0, _contains(term.text))
            for term, query in zip(terms, queries, strict=True)
        ),
    ]


def _in_blocks(blocks: range | None) -> list[sa.ColumnElement[bool]]:
    """Return the condition for the index that a record is in these blocks."""
    if blocks is None:
        return []
    numbers = sa.cast(sa.literal(list(blocks), BIGINTS), BIGINTS)
    block: sa.ColumnElement[Any] = sa.literal_column(POSTGRES_BLOCK)
    return [block.op("&&", is_comparison=True)(numbers)]


def _between(blocks: range | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that an id is in these blocks, for a query without the index."""
    if blocks is None:
        return []
    first, after = blocks.start << BLOCK_BITS, blocks.stop << BLOCK_BITS
    return [first <= RECORDS.c.id, RECORDS.c.id < after]


def rank(search: str, *, sqlite: bool) -> sa.ColumnElement[Any] | None:
    """Return a record's score, lowest for the best match; None if no term is in the index.

    On SQLite, only a query that reads `question_answer_search` can use it.
    """
    terms = [term for term in parse_terms(search) if term.is_indexed]
    if not terms:
        return None
    if sqlite:
        return sa.literal_column("bm25(question_answer_search, 2.0, 1.0)")
    vector: sa.ColumnElement[Any] = sa.literal_column(POSTGRES_VECTOR)
    query = tsquery(terms[0])
    for term in terms[1:]:
        query = query.op("||")(tsquery(term))
    by_length = 2  # a match in a short text has a better score
    return -sa.func.ts_rank(vector, query, by_length)


def _contains(text: str) -> sa.ColumnElement[bool]:
    return sa.or_(
        RECORDS.c.question.icontains(text, autoescape=True),
        RECORDS.c.answer.icontains(text, autoescape=True),
    )
