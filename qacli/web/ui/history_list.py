"""The list of records beside the page: a search, filters, and pages by key.

How many records there are is never counted: a page knows whether there is an older and a newer
one, and is as quick in a million records as in ten.
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
from qacli.validation import validate_text
from qacli.web.api.schemas import Id

_ID: TypeAdapter[int] = TypeAdapter(Id)
PAGE_SIZE = 30
EXCERPT = 140
BEFORE_MATCH = 40
"""How much of an answer is shown before the word that was searched for."""

MAX_SEARCHED_CHARACTERS = 20_000
"""How much of a text is looked through for the word to show."""

FILTERS = ("status", "model", "tag", "since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What the address of a page asks for; what is empty does not matter."""

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
        """The query in an address; what it has besides belongs to others."""
        return cls(**{item.name: arguments.get(item.name, "").strip() for item in fields(cls)})

    @property
    def chips(self) -> list[tuple[str, str]]:
        """The filters in force, each with the address of the list without it."""
        return [
            (f"{name}: {value}", replace(self, **{name: ""}, before="", after="").url)
            for name in FILTERS
            if (value := getattr(self, name))
        ]

    @property
    def is_narrowed(self) -> bool:
        """Whether only some of the records are wanted."""
        return bool(self.q or self.chips)

    @property
    def suffix(self) -> str:
        """The query as an address ends with it."""
        said = {item.name: value for item in fields(self) if (value := getattr(self, item.name))}
        return f"?{urlencode(said)}" if said else ""

    @property
    def url(self) -> str:
        """The list's own address."""
        return f"/{self.suffix}"

    def filter(self, now: datetime) -> Filter:
        """Which records.

        Raises:
            InvalidRequest: A filter cannot be understood.
        """
        for name in ("q", "model", "tag"):
            validate_text(getattr(self, name), name)
        if self.status and self.status not in set(Status):
            raise InvalidRequest(
                f"{self.status!r} is no status.", f"There are {', '.join(Status)}."
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
        query: What was asked for.
        items: The newest first.
        newer: The address of the page with newer records; None where there is none.
        older: The address of the page with older records.
        problem: Why there is no list.
    """

    query: Query
    items: list[Item]
    newer: str | None = None
    older: str | None = None
    problem: str | None = None


def listing(store: Store, query: Query, now: datetime) -> Listing:
    """The page that the query asks for; a filter that cannot be understood is its problem."""
    try:
        only = query.filter(now)
        before, after = _id("before", query.before), _id("after", query.after)
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
    items = [item(record, query, now) for record in records]
    return Listing(query=query, items=items, newer=newer, older=older)


def item(record: QuestionAnswer, query: Query, now: datetime) -> Item:
    """A record as the list shows it."""
    assert record.id is not None  # noqa: S101 - it comes from the database
    words = [term.text for term in parse_terms(query.q)]
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None
    question = shorten(record.question)
    # A record within a thread is shown where it stands in it.
    place = f"#r{record.id}" if record.follows_id is not None else ""
    return Item(
        id=record.id,
        address=f"/page/{record.id}{query.suffix}{place}",
        question=_marked(question, pattern),
        excerpt=_marked(_excerpt(record, question, words), pattern),
        when=record.created_at,
        ago=format_age(record.created_at, now),
        model=record.model or str(record.params.get("model", "")),
        status=record.status,
        tags=record.tags,
        follows=record.follows_id is not None,
    )


def shorten(text: str, most: int = EXCERPT) -> str:
    """The beginning of a text, on one line."""
    start = " ".join(text[: 4 * most].split())
    return start if len(start) <= most else f"{start[: most - 1].rstrip()}\u2026"


def _excerpt(record: QuestionAnswer, shown: str, words: list[str]) -> str:
    """Where the first word stands that is not in what is shown of the question anyway."""
    for word in words:
        pattern = re.compile(re.escape(word), re.IGNORECASE)
        if pattern.search(shown):
            continue
        for text in (record.question, record.answer or ""):
            if found := pattern.search(text, 0, MAX_SEARCHED_CHARACTERS):
                return _around(text, found.start())
    return ""


def _around(text: str, at: int) -> str:
    """A part of a text with a match in it, from the beginning of a word on."""
    start = max(at - BEFORE_MATCH, 0)
    if start:
        start = text.find(" ", start, at) + 1 or start
    return ("\u2026" if start else "") + shorten(text[start : start + 4 * EXCERPT])


def _marked(text: str, pattern: re.Pattern[str] | None) -> Markup:
    """The text with what was searched for marked."""
    if pattern is None:
        return escape(text)
    parts, at = [], 0
    for found in pattern.finditer(text):
        parts += [escape(text[at : found.start()]), Markup("<mark>{}</mark>").format(found[0])]
        at = found.end()
    return Markup("").join([*parts, escape(text[at:])])


def _id(name: str, text: str) -> int | None:
    try:
        return _ID.validate_python(text) if text else None
    except ValidationError:
        raise InvalidRequest(
            f"{name} is not the id of a record.", "Go to the first page of the list."
        ) from None
