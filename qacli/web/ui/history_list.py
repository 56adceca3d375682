"""The list of records beside the page: search, filters and keyset paging.

The records are never counted: one query tells whether there is an older and a newer page, and it
takes the same time for ten records as for a million.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Self
from urllib.parse import urlencode

from markupsafe import Markup, escape
from pydantic import TypeAdapter, ValidationError

from qacli.dates import format_age, parse_when
from qacli.db.filters import Filter
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.db.search import parse_terms
from qacli.domain import Status
from qacli.errors import InvalidRequest
from qacli.excerpt import ELLIPSIS, find_first, from_position
from qacli.validation import validate_text
from qacli.web.api.schemas import Id

_ID: TypeAdapter[int] = TypeAdapter(Id)
PAGE_SIZE = 30
EXCERPT_CHARACTERS = 140
CHARACTERS_BEFORE_MATCH = 40
"""Characters of a text that are shown before the word that was searched for."""

FILTERS = ("status", "model", "tag", "since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The search, filters and page in the query string of an address; empty ones do not apply."""

    q: str = ""
    status: str = ""
    model: str = ""
    tag: str = ""
    since: str = ""
    until: str = ""
    before: str = ""
    after: str = ""

    @classmethod
    def from_args(cls, arguments: Mapping[str, str]) -> Self:
        """Read the query from the arguments of a request; other arguments are ignored."""
        return cls(**{item.name: arguments.get(item.name, "").strip() for item in fields(cls)})

    @property
    def chips(self) -> list[tuple[str, str]]:
        """The active filters, each with the address of the list without it."""
        return [
            (f"{name}: {value}", replace(self, **{name: ""}, before="", after="").url)
            for name in FILTERS
            if (value := getattr(self, name))
        ]

    @property
    def words(self) -> list[str]:
        """The words and phrases of the search."""
        return [term.text for term in parse_terms(self.q)]

    @property
    def is_narrowed(self) -> bool:
        """True if a search or a filter is active."""
        return bool(self.q or self.chips)

    @property
    def suffix(self) -> str:
        """The query string with its question mark; empty without a query."""
        values = {item.name: value for item in fields(self) if (value := getattr(self, item.name))}
        return f"?{urlencode(values)}" if values else ""

    @property
    def url(self) -> str:
        """The address of this list."""
        return f"/{self.suffix}"

    def filter(self, now: datetime) -> Filter:
        """Return the filter for the database.

        Raises:
            InvalidRequest: A filter is invalid.
        """
        for name in ("q", "model", "tag"):
            validate_text(getattr(self, name), name)
        if self.status and self.status not in set(Status):
            raise InvalidRequest(
                f"{self.status!r} is not a status.", f"Use one of: {', '.join(Status)}."
            )
        return Filter(
            search=self.q or None,
            status=self.status or None,
            model=self.model or None,
            tag=self.tag or None,
            since=parse_when(self.since, now) if self.since else None,
            until=parse_when(self.until, now) if self.until else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A record in the list."""

    id: int
    address: str
    question: Markup
    excerpt: Markup
    when: datetime
    ago: str
    model: str
    status: Status
    tags: list[str]
    follows: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of the list.

    Attributes:
        query: The query that the page answers.
        items: The records, newest first.
        newer: The address of the page with newer records; None if there is none.
        older: The address of the page with older records; None if there is none.
        problem: The error in the query, if it is invalid; there are no items then.
    """

    query: Query
    items: list[Item]
    newer: str | None = None
    older: str | None = None
    problem: str | None = None


def load_listing(store: Store, query: Query, now: datetime) -> Listing:
    """Return the page of the list for a query; an invalid filter becomes its `problem`."""
    try:
        only = query.filter(now)
        before = _parse_id("before", query.before)
        after = _parse_id("after", query.after)
    except InvalidRequest as error:
        return Listing(query=query, items=[], problem=str(error))
    upwards = after is not None and before is None
    records = store.page(
        limit=PAGE_SIZE + 1, before=before, after=after, newest_first=not upwards, only=only
    )
    more = len(records) > PAGE_SIZE
    records = records[:PAGE_SIZE]
    if upwards:
        records.reverse()
    newer = older = None
    if records and (more if upwards else before is not None):
        newer = replace(query, after=str(records[0].id), before="").url
    if records and (upwards or more):
        older = replace(query, before=str(records[-1].id), after="").url
    words = query.words
    items = [make_item(record, query, now, words) for record in records]
    return Listing(query=query, items=items, newer=newer, older=older)


def make_item(record: QuestionAnswer, query: Query, now: datetime, words: list[str]) -> Item:
    """Return a record as an item of the list.

    Args:
        record: A record from the database.
        query: The query of the list.
        now: The current time.
        words: `query.words`, parsed once for a list.
    """
    assert record.id is not None  # noqa: S101 - it comes from the database
    question = shorten(record.question)
    # A record within a thread is shown at its place in the thread.
    anchor = f"#r{record.id}" if record.follows_id is not None else ""
    return Item(
        id=record.id,
        address=f"/page/{record.id}{query.suffix}{anchor}",
        question=mark_words(question, words),
        excerpt=mark_words(_excerpt(record, question, words), words),
        when=record.created_at,
        ago=format_age(record.created_at, now),
        model=record.model or str(record.params.get("model", "")),
        status=record.status,
        tags=record.tags,
        follows=record.follows_id is not None,
    )


def shorten(text: str, length: int = EXCERPT_CHARACTERS) -> str:
    """Return the beginning of a text on one line, at most `length` characters."""
    start = " ".join(text[: 4 * length].split())
    return start if len(start) <= length else f"{start[: length - 1].rstrip()}{ELLIPSIS}"


def _excerpt(record: QuestionAnswer, question: str, words: list[str]) -> str:
    """Return the text around the first word that the shortened question does not show."""
    missing = [word for word in words if find_first(question, [word]) is None]
    for text in (record.question, record.answer or ""):
        if (position := find_first(text, missing)) is not None:
            end = position + 4 * EXCERPT_CHARACTERS
            return shorten(from_position(text[:end], position, CHARACTERS_BEFORE_MATCH))
    return ""


def mark_words(text: str, words: list[str]) -> Markup:
    """Return a short text as HTML with the words of the search marked."""
    present = [re.escape(word) for word in words if find_first(text, [word]) is not None]
    if not present:
        return escape(text)
    html = []
    # Every second part is a match.
    for index, part in enumerate(re.split(f"({'|'.join(present)})", text, flags=re.IGNORECASE)):
        html.append(Markup("<mark>{}</mark>").format(part) if index % 2 else escape(part))
    return Markup("").join(html)


def _parse_id(name: str, text: str) -> int | None:
    try:
        return _ID.validate_python(text) if text else None
    except ValidationError:
        raise InvalidRequest(
            f"{name} is not the id of a record.", "Go to the first page of the list."
        ) from None
