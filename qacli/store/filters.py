"""Which records: search in plain words, and filters that combine.

Any text is a search. Its words, and its "quoted phrases", are looked up in the full-text index of
the database, stems included. What such an index cannot see (`c++`, an emoji, a part of a text
that has no spaces between words, as Chinese) is looked for in the texts themselves. So is a letter
that is newer than the index: that one's tables decide what a word is, and they differ.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from qacli.exchange import storable
from qacli.models import QuestionAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = QuestionAnswer.__table__  # type: ignore[attr-defined]

MARKS = "?!.,;:()[]{}'\u2018\u2019\u201c\u201d\u2026"
"""What stands around a word and is not meant."""

MOST_TERMS = 100
"""Of more the first count: a database's expressions can only be so deep."""

LONGEST_TERM = 500
"""Of a longer one the start counts: no index takes much more for a word, no LIKE for a pattern."""

BETWEEN_WORDS = "'\u2019.,;:!?()-"
"""What a search need not look for: `well-known` is as good as `well known`."""

COMMON = 20_000
"""What more records have is not ranked in SQLite: for that it would read all of them."""

RANKED = 1000
"""How many of the newest matches are ranked: a common word must not make a search slow."""

UNSPACED = re.compile(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records; what is None does not matter.

    Attributes:
        search: Plain words and "quoted phrases"; all of them must be there.
        since: Asked then or later.
        until: Asked before then.
        model: The model that answered, or its name without a date.
        status: As it is in the record.
        tag: One of the record's tags.
        system: A part of the system prompt.
        follows_id: The record that it follows up.
        min_cost: US dollars that it cost at least.
        batch_id: The batch that it came from.
        untagged: Only records without any tag.
        owner: The caller that asked it; `Store` sets it, see `Store.visible_to`.
    """

    search: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    status: str | None = None
    tag: str | None = None
    system: str | None = None
    follows_id: int | None = None
    min_cost: float | None = None
    batch_id: int | None = None
    untagged: bool = False
    owner: str | None = None

    @property
    def in_index(self) -> bool:
        """Whether it is a search that the index answers by itself, and nothing else."""
        wanted = terms(self.search or "")
        alone = Filter(search=self.search) == self
        return alone and bool(wanted) and all(t.is_indexed and not t.is_literal for t in wanted)

    def conditions(self, *, sqlite: bool) -> list[sa.ColumnElement[bool]]:
        """What a record must fulfil."""
        column = RECORDS.c
        plain: tuple[tuple[object, Callable[[Any], Any]], ...] = (
            (self.since, column.created_at.__ge__),
            (self.until, column.created_at.__lt__),
            (self.model, _answered_by),
            (self.status, column.status.__eq__),
            (self.tag, partial(_has_tag, sqlite=sqlite)),
            (self.system, partial(column.system.contains, autoescape=True)),
            (self.follows_id, column.follows_id.__eq__),
            (self.min_cost, column.cost_usd.__ge__),
            (self.batch_id, column.batch_id.__eq__),
            (self.owner, column.caller.__eq__),
        )
        found = [condition(value) for value, condition in plain if value is not None]
        if self.untagged:
            found.append(sa.cast(column.tags, sa.Text) == "[]")
        return found + (_search(self.search, sqlite=sqlite) if self.search is not None else [])


@dataclass(frozen=True, slots=True)
class Term:
    """A word or a phrase that must be there."""

    text: str

    @property
    def is_indexed(self) -> bool:
        """Whether the index finds it."""
        return (
            len(self.text) < LONGEST_TERM
            and not UNSPACED.search(self.text)
            and any(map(_is_indexed, self.text))
        )

    @property
    def is_literal(self) -> bool:
        """Whether it must be looked for as it is written: the index sees only a part of it."""
        return not self.is_indexed or not all(
            _is_indexed(each) or each.isspace() or each in BETWEEN_WORDS for each in self.text
        )


def _is_indexed(character: str) -> bool:
    """Whether every index takes it for a part of a word: it was one in the Unicode of 2002."""
    if character.isascii():
        return character.isalnum()
    return unicodedata.ucd_3_2_0.category(character)[0] in "LN"


def terms(search: str) -> list[Term]:
    """The terms of a search: quoted phrases as they are, words without the marks around them."""
    found: dict[str, None] = {}
    for phrase, word in re.findall(r'"([^"]*)"|([^\s"]+)', storable(search)):
        text = phrase.strip() if phrase else word.strip(MARKS) or word
        if text:
            found[text[:LONGEST_TERM]] = None
        if len(found) == MOST_TERMS:
            break
    return [Term(text) for text in found]


def _search(search: str, *, sqlite: bool) -> list[sa.ColumnElement[bool]]:
    wanted = terms(search)
    indexed = [term for term in wanted if term.is_indexed]
    conditions: list[sa.ColumnElement[bool]] = []
    if indexed:
        conditions += [_in_sqlite(indexed)] if sqlite else _in_postgres(indexed)
    conditions += [_literally(term.text) for term in wanted if term.is_literal]
    return conditions


def match_of(wanted: list[Term]) -> str:
    """The terms for SQLite's index: each a quoted phrase, so that nothing in it is an operator.

    There is no quotation mark in any of them: those ended the terms.
    """
    return " AND ".join(f'"{term.text}"' for term in wanted)


def query_of(term: Term) -> sa.ColumnElement[Any]:
    """The term for PostgreSQL's index: as it is written, or as its stem.

    What is a letter depends on the database's locale, so the database takes the term apart, too.
    """
    words = sa.func.regexp_replace(term.text, r"\W+", " ", "g")
    written = sa.func.phraseto_tsquery(sa.text("'simple'"), words)
    stem = sa.func.phraseto_tsquery(sa.text("'english'"), words)
    return written.op("||")(stem)


def found_in_sqlite(wanted: list[Term], *, newest: int | None = None) -> sa.TextClause:
    """The ids that SQLite's index finds: all of them, or so many of the newest."""
    query = "SELECT rowid FROM question_answer_search WHERE question_answer_search MATCH :match"
    if newest is not None:
        # The index is read from its end, and no further than needed.
        query += f" ORDER BY rowid DESC LIMIT {newest:d}"
    return sa.text(query).bindparams(match=match_of(wanted))


def _in_sqlite(wanted: list[Term]) -> sa.ColumnElement[bool]:
    chosen: sa.ColumnElement[bool] = RECORDS.c.id.in_(found_in_sqlite(wanted))
    return chosen


def _in_postgres(wanted: list[Term]) -> list[sa.ColumnElement[bool]]:
    """All terms as one query, and literally those of which its locale leaves nothing."""
    queries = [query_of(term) for term in wanted]
    every = reduce(lambda all_, each: all_.op("&&")(each), queries)
    vector: sa.ColumnElement[Any] = sa.literal_column(POSTGRES_VECTOR)
    # What numnode counts is a constant to the planner: it drops the alternatives.
    in_index = sa.or_(sa.func.numnode(every) == 0, vector.op("@@", is_comparison=True)(every))
    return [
        in_index,
        *(
            sa.or_(sa.func.numnode(query) > 0, _literally(term.text))
            for term, query in zip(wanted, queries, strict=True)
        ),
    ]


def rank(search: str, *, sqlite: bool) -> sa.ColumnElement[Any] | None:
    """How well a record fits, the best the lowest; None where the index cannot tell.

    On SQLite it is only known in a query that reads `question_answer_search`.
    """
    wanted = [term for term in terms(search) if term.is_indexed]
    if not wanted:
        return None
    if sqlite:
        return sa.literal_column("bm25(question_answer_search, 2.0, 1.0)")
    vector: sa.ColumnElement[Any] = sa.literal_column(POSTGRES_VECTOR)
    query = query_of(wanted[0])
    for term in wanted[1:]:
        query = query.op("||")(query_of(term))
    by_length = 2  # a match says more about a short text
    return -sa.func.ts_rank(vector, query, by_length)


def _answered_by(model: str) -> sa.ColumnElement[bool]:
    dated = RECORDS.c.model.startswith(f"{model}-20", autoescape=True)
    return sa.or_(RECORDS.c.model == model, dated)


def _literally(text: str) -> sa.ColumnElement[bool]:
    return sa.or_(
        RECORDS.c.question.icontains(text, autoescape=True),
        RECORDS.c.answer.icontains(text, autoescape=True),
    )


def _has_tag(tag: str, *, sqlite: bool) -> sa.ColumnElement[bool]:
    if sqlite:
        each = sa.func.json_each(RECORDS.c.tags).table_valued("value")
        return sa.exists(sa.select(each.c.value).where(each.c.value == tag))
    from sqlalchemy.dialects.postgresql import JSONB

    tagged: sa.ColumnElement[bool] = sa.cast(RECORDS.c.tags, JSONB).contains([tag])
    return tagged
