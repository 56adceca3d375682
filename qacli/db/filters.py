"""Select records: a search in plain words, and filters that combine.

Any text is a search. Its words and its "quoted phrases" are looked up in the full-text index of the
database, stems included. A term that is not in such an index (`c++`, an emoji, a part of a text
without spaces between words, such as Chinese) is searched in the texts themselves; so is a letter
that is newer than the Unicode tables of the index.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from qacli.db.models import BATCHES, CALLS, RECORDS, VALUES
from qacli.db.search import parse_terms, search_condition
from qacli.db.threads import connected

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TOOL_NAME_LENGTH = 200
"""Characters of a tool's name in `tool_call`; see migrations/versions/0015_record_lookups.py."""

INDEXED_TAG_LENGTH = 500
"""Characters of a tag in the index of PostgreSQL; see migrations/versions/0023_tags_index.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A selection of records; a value of None does not restrict it.

    Attributes:
        search: Plain words and "quoted phrases"; a record must contain all of them.
        since: Asked at this time or later.
        until: Asked before this time.
        model: The model that answered, with or without its date.
        endpoint: The host that answered, with its port if it has one.
        status: The record's status.
        tag: One of the record's tags.
        system: A part of the system prompt.
        error_kind: The kind of the error.
        thread: A record of the thread, with all branches; -1 is the newest record, -2 the one
            before it.
        follows_id: The record that the record follows up.
        corrects_id: The record that the record corrects.
        repeats_id: The record is this one, or asks its question again.
        rating: The judgement of a user, 1 to 5.
        min_cost: Minimum cost in US dollars.
        batch_id: The record's batch.
        batch: The name of the record's batch.
        request_id: The HTTP request that the record came in.
        caller: The name of the token that asked.
        tool: The name of a tool that the model called.
        untagged: Only records without tags.
        owner: The caller that asked; set by `Store`, see `RecordQueries.visible_to`.
    """

    search: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    endpoint: str | None = None
    status: str | None = None
    tag: str | None = None
    system: str | None = None
    error_kind: str | None = None
    thread: int | None = None
    follows_id: int | None = None
    corrects_id: int | None = None
    repeats_id: int | None = None
    rating: int | None = None
    min_cost: float | None = None
    batch_id: int | None = None
    batch: str | None = None
    request_id: str | None = None
    caller: str | None = None
    tool: str | None = None
    untagged: bool = False
    owner: str | None = None

    @property
    def in_index(self) -> bool:
        """True if it is only a search, and the index answers it without reading texts."""
        terms = parse_terms(self.search or "")
        is_only_search = Filter(search=self.search) == self
        return is_only_search and bool(terms) and not any(term.is_literal for term in terms)

    def conditions(
        self, *, sqlite: bool, blocks: range | None = None
    ) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that a record must meet.

        Args:
            sqlite: The database is SQLite.
            blocks: Only records of these blocks of ids; only for a search on PostgreSQL.
        """
        column = RECORDS.c
        plain: tuple[tuple[object, Callable[[Any], Any]], ...] = (
            (self.since, column.created_at.__ge__),
            (self.until, column.created_at.__lt__),
            (self.model, _answered_by),
            (self.endpoint, column.endpoint.__eq__),
            (self.status, column.status.__eq__),
            (self.tag, partial(_has_tag, sqlite=sqlite)),
            (self.system, _has_system),
            (self.error_kind, column.error_kind.__eq__),
            (self.thread, _in_thread),
            (self.follows_id, column.follows_id.__eq__),
            (self.corrects_id, column.corrects_id.__eq__),
            (self.repeats_id, _in_group),
            (self.rating, column.rating.__eq__),
            (self.min_cost, column.cost_usd.__ge__),
            (self.batch_id, column.batch_id.__eq__),
            (self.batch, _in_batch),
            (self.request_id, column.request_id.__eq__),
            (self.caller, column.caller.__eq__),
            (self.tool, _has_called),
            (self.owner, column.caller.__eq__),
        )
        conditions = [condition(value) for value, condition in plain if value is not None]
        if self.untagged:
            conditions.append(sa.cast(column.tags, sa.Text) == "[]")
        if self.search is not None:
            conditions += search_condition(self.search, sqlite=sqlite, blocks=blocks)
        return conditions


def _in_thread(record_id: int) -> sa.ColumnElement[bool]:
    records: sa.ColumnElement[bool] = RECORDS.c.id.in_(connected(record_id))
    return records


def _in_batch(name: str) -> sa.ColumnElement[bool]:
    query = sa.select(BATCHES.c.id).where(BATCHES.c.name == name)
    return sa.and_(RECORDS.c.batch_id == query.scalar_subquery())


def _has_system(text: str) -> sa.ColumnElement[bool]:
    long = sa.select(VALUES.c.id).where(VALUES.c.value.contains(text, autoescape=True))
    own = RECORDS.c.system.contains(text, autoescape=True)
    return sa.or_(own, RECORDS.c.system_id.in_(long))


def _answered_by(model: str) -> sa.ColumnElement[bool]:
    dated = RECORDS.c.model.startswith(f"{model}-20", autoescape=True)
    return sa.or_(RECORDS.c.model == model, dated)


def _has_tag(tag: str, *, sqlite: bool) -> sa.ColumnElement[bool]:
    if sqlite:
        each = sa.func.json_each(RECORDS.c.tags).table_valued("value")
        return sa.exists(sa.select(each.c.value).where(each.c.value == tag))
    # The expression of the index in migrations/versions/0023_tags_index.py.
    tags: sa.ColumnElement[Any] = sa.literal_column("qa_tags(question_answer.tags)")
    texts: sa.ARRAY[str] = sa.ARRAY(sa.Text)
    start = sa.cast(sa.literal([tag[:INDEXED_TAG_LENGTH]], texts), texts)
    has_start: sa.ColumnElement[bool] = tags.op("@>", is_comparison=True)(start)
    if len(tag) < INDEXED_TAG_LENGTH:
        return has_start
    from sqlalchemy.dialects.postgresql import JSONB

    return sa.and_(has_start, sa.cast(RECORDS.c.tags, JSONB).contains([tag]))


def _in_group(record_id: int) -> sa.ColumnElement[bool]:
    """Return the condition that a record is this one, or asks its question again."""
    return sa.or_(RECORDS.c.id == record_id, RECORDS.c.repeats_id == record_id)


def _has_called(tool: str) -> sa.ColumnElement[bool]:
    """Return the condition that one of the tool calls of the answer has this name."""
    ids = sa.select(CALLS.c.record_id).where(CALLS.c.name == tool[:MAX_TOOL_NAME_LENGTH])
    is_caller: sa.ColumnElement[bool] = RECORDS.c.id.in_(ids)
    return is_caller
