"""Which records: search in plain words, and filters that combine.

Any text is a search. Its words, and its "quoted phrases", are looked up in the full-text index of
the database, stems included. What such an index cannot see (`c++`, an emoji, a part of a text
that has no spaces between words, as Chinese) is looked for in the texts themselves. So is a letter
that is newer than the index: that one's tables decide what a word is, and they differ.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from qacli.db.search import RECORDS, parse_terms, search_condition

if TYPE_CHECKING:
    from collections.abc import Callable


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
        error_kind: The kind of its error.
        follows_id: The record that it follows up.
        corrects_id: The record that it corrects.
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
    error_kind: str | None = None
    follows_id: int | None = None
    corrects_id: int | None = None
    min_cost: float | None = None
    batch_id: int | None = None
    untagged: bool = False
    owner: str | None = None

    @property
    def in_index(self) -> bool:
        """Whether it is a search that the index answers by itself, and nothing else."""
        wanted = parse_terms(self.search or "")
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
            (self.error_kind, column.error_kind.__eq__),
            (self.follows_id, column.follows_id.__eq__),
            (self.corrects_id, column.corrects_id.__eq__),
            (self.min_cost, column.cost_usd.__ge__),
            (self.batch_id, column.batch_id.__eq__),
            (self.owner, column.caller.__eq__),
        )
        found = [condition(value) for value, condition in plain if value is not None]
        if self.untagged:
            found.append(sa.cast(column.tags, sa.Text) == "[]")
        return found + (
            search_condition(self.search, sqlite=sqlite) if self.search is not None else []
        )


def _answered_by(model: str) -> sa.ColumnElement[bool]:
    dated = RECORDS.c.model.startswith(f"{model}-20", autoescape=True)
    return sa.or_(RECORDS.c.model == model, dated)


def _has_tag(tag: str, *, sqlite: bool) -> sa.ColumnElement[bool]:
    if sqlite:
        each = sa.func.json_each(RECORDS.c.tags).table_valued("value")
        return sa.exists(sa.select(each.c.value).where(each.c.value == tag))
    from sqlalchemy.dialects.postgresql import JSONB

    tagged: sa.ColumnElement[bool] = sa.cast(RECORDS.c.tags, JSONB).contains([tag])
    return tagged
