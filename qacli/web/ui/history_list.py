"""The list of conversations next to the page: search, filters and keyset paging.

A conversation stands at its newest record; in a search, at its newest match on the page. The
records are never counted: pages of them are read until there is one conversation more than a page
of the list has.
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
from qacli.db.thread_list import Thread, threads_of
from qacli.domain import Status
from qacli.errors import InvalidRequest
from qacli.excerpt import ELLIPSIS, find_first, from_position
from qacli.validation import validate_text
from qacli.web.api.schemas import Id
from qacli.web.forwarded_prefix import root

_ID: TypeAdapter[int] = TypeAdapter(Id)
PAGE_SIZE = 30
MAX_READS = 10
"""Pages of records that are read for one page of the list: a conversation may have thousands."""

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
        """The path and the query string of the page with this list."""
        return f"{root()}/{self.suffix}"

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
    """A conversation in the list.

    Attributes:
        id: The record that stands for it.
        thread: The id of its first record.
        records: The number of its records.
        follows: The shown question is a follow-up.
    """

    id: int
    thread: int
    records: int
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
    rows, has_more = _read(store, query, only, None if upwards else before, after, upwards=upwards)
    newer = older = None
    if rows and (has_more if upwards else before is not None):
        newer = replace(query, after=str(rows[0][0].id), before="").url
    if rows and (upwards or has_more):
        older = replace(query, before=str(rows[-1][0].id), after="").url
    words = query.words
    items = [make_item(record, thread, query, now, words) for record, thread in rows]
    return Listing(query=query, items=items, newer=newer, older=older)


def _read(  # noqa: PLR0913 - the query and its range
    store: Store,
    query: Query,
    only: Filter,
    before: int | None,
    after: int | None,
    *,
    upwards: bool,
) -> tuple[list[tuple[QuestionAnswer, Thread]], bool]:
    """Return a page of records with their threads, newest first; True if there are more."""
    rows: dict[int, tuple[QuestionAnswer, Thread]] = {}
    for _ in range(MAX_READS):
        records = store.page(
            limit=PAGE_SIZE + 1, before=before, after=after, newest_first=not upwards, only=only
        )
        threads = threads_of(store, [record.id or 0 for record in records])
        for record in records:
            thread = threads.get(record.id or 0)
            # Without a search the newest record stands for all, so no page has another one.
            if thread is not None and (query.is_narrowed or thread.last_id == record.id):
                rows.setdefault(thread.id, (record, thread))
        has_more = len(records) > PAGE_SIZE
        if not has_more or len(rows) > PAGE_SIZE:
            break
        last = records[-1].id
        before, after = (before, last) if upwards else (last, after)
    page = list(rows.values())[:PAGE_SIZE]
    return (page[::-1] if upwards else page), has_more or len(rows) > PAGE_SIZE


def make_item(
    record: QuestionAnswer, thread: Thread, query: Query, now: datetime, words: list[str]
) -> Item:
    """Return a conversation as an item of the list.

    Args:
        record: The record that stands for it.
        thread: The conversation.
        query: The query of the list.
        now: The current time.
        words: `query.words`, parsed once for a list.
    """
    assert record.id is not None  # noqa: S101 - it comes from the database
    heading = record.question if query.is_narrowed else thread.question
    question = shorten(record.title or thread.title or heading)
    # A record within a thread is shown at its place in the thread.
    anchor = f"#r{record.id}" if record.follows_id is not None else ""
    return Item(
        id=record.id,
        thread=thread.id,
        records=thread.records,
        address=f"{root()}/page/{record.id}{query.suffix}{anchor}",
        question=mark_words(question, words),
        excerpt=mark_words(_excerpt(record, question, words), words),
        when=record.created_at,
        ago=format_age(record.created_at, now),
        model=record.model or str(record.params.get("model", "")),
        status=record.status,
        tags=record.tags,
        follows=query.is_narrowed and record.follows_id is not None,
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
    return mark_html(escape(text), words) if find_first(text, words) is not None else escape(text)


def mark_html(html: Markup, words: list[str]) -> Markup:
    """Return HTML with the words of the search marked in its text."""
    if not words:
        return html
    pattern = re.compile("|".join(re.escape(escape(word)) for word in words), re.IGNORECASE)
    # Every second part is a tag, or a character that is written as an entity.
    parts = re.split(r"(<[^>]*>|&[#\w]+;)" if "&" not in pattern.pattern else r"(<[^>]*>)", html)
    for number in range(0, len(parts), 2):
        parts[number] = pattern.sub(r"<mark>\g<0></mark>", parts[number])
    return Markup("".join(parts))  # noqa: S704 - the parts of HTML, and tags of our own


def _parse_id(name: str, text: str) -> int | None:
    try:
        return _ID.validate_python(text) if text else None
    except ValidationError:
        raise InvalidRequest(
            f"{name} is not the id of a record.", "Go to the first page of the list."
        ) from None
