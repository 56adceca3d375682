"""Histories that move: into this one from an export, or from another tool's database.

A record is known by its uid, so the same import again adds nothing. Ids are kept where they are
free; where one is taken by another record, the newcomer gets a new one, and what follows it up is
pointed there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from qacli.errors import InvalidRequest
from qacli.exchange import (
    MAX_ID,
    Status,
    canonical,
    fingerprint,
    refuse_unstorable,
    storable,
)
from qacli.models import QuestionAnswer
from qacli.store.filters import RECORDS
from qacli.store.records import Store

AT_ONCE = 1000
ALONE = {"idempotency_key": None, "batch_id": None, "item_key": None}
"""What a record is left without where another one here has its key, or its place in a batch."""

Count = Annotated[int, Field(ge=0, le=MAX_ID)]


class Document(BaseModel):
    """A record as an export has it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: Annotated[int, Field(gt=0, le=MAX_ID)] | None = None
    question: str
    answer: str | None = None
    created_at: AwareDatetime
    status: Status
    error: str | None = None
    answered_at: AwareDatetime | None = None
    latency_ms: Count | None = None
    first_token_ms: Count | None = None
    model: str | None = None
    provider_response_id: str | None = None
    finish_reason: str | None = None
    system: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    cost_usd: float | None = None
    follows_id: Count | None = None
    batch_id: Count | None = None
    item_key: str | None = None
    idempotency_key: str | None = None
    tags: list[str] = Field(default_factory=list)
    uid: str = Field(min_length=1, max_length=32)
    attachments: list[dict[str, Any]] = Field(default_factory=list)
    caller: str | None = None
    request_id: str | None = None

    def row(self) -> dict[str, Any]:
        """The values as the database takes them.

        Raises:
            InvalidRequest: One of them is a text that no database can hold.
        """
        values = dict(self)
        refuse_unstorable(values, "a field")
        return {**values, "fingerprint": _fingerprint(values)}


@dataclass(slots=True)
class Moved:
    """What an import has done.

    Attributes:
        added: Records that are new here.
        there: Records that were here already.
        renumbered: Of the new ones, those that got another id.
        new_ids: The ids of those, by their old ones.
    """

    added: int = 0
    there: int = 0
    renumbered: int = 0
    new_ids: dict[int, int] = field(default_factory=dict)


def take_in(store: Store, documents: Iterable[Document]) -> Moved:
    """Add records, a thousand to a transaction.

    Raises:
        InvalidRequest: One of them cannot be stored.
    """
    moved = Moved()
    for page in _pages(each.row() for each in documents):
        with store.transaction(write=True) as connection:
            _add(store, connection, page, moved)
            # With each page: what is asked after an import that has failed needs an id, too.
            _count_on_from_the_last_id(store, connection)
    return moved


def _pages(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows, many at a time; those before one that cannot be used come all the same.

    Raises:
        InvalidRequest: What is wrong with that one.
    """
    page: list[dict[str, Any]] = []
    try:
        for row in rows:
            page.append(row)
            if len(page) == AT_ONCE:
                yield page
                page = []
    except InvalidRequest:
        yield page
        raise
    yield page


def _add(store: Store, connection: sa.Connection, page: list[dict[str, Any]], moved: Moved) -> None:
    uids = [row["uid"] for row in page]
    same = sa.select(RECORDS.c.uid, RECORDS.c.id).where(RECORDS.c.uid.in_(uids))
    there = {uid: record_id for uid, record_id in connection.execute(same)}  # noqa: C416 - rows
    wanted = [row["id"] for row in page if row["id"] is not None]
    taken = set(connection.scalars(sa.select(RECORDS.c.id).where(RECORDS.c.id.in_(wanted))))
    fresh: list[dict[str, Any]] = []
    crowded: list[dict[str, Any]] = []
    for row in page:
        if row["uid"] in there:
            moved.there += 1
            _note_new_id(moved, row["id"], there[row["uid"]])
        elif row["id"] is None or row["id"] in taken:
            crowded.append(row)
        else:
            taken.add(row["id"])
            fresh.append(row)
        there.setdefault(row["uid"], row["id"])
    # First those that keep their ids, so that no new id is one of theirs.
    _insert(store, connection, fresh)
    if crowded:
        _count_on_from_the_last_id(store, connection)
    for row in crowded:
        _insert_renumbered(store, connection, row, moved)
    moved.added += len(fresh) + len(crowded)
    for row in (*fresh, *crowded):
        if (new := moved.new_ids.get(row["follows_id"])) is not None:
            here = RECORDS.c.uid == row["uid"]
            changed = {"follows_id": new, "fingerprint": _fingerprint({**row, "follows_id": new})}
            connection.execute(sa.update(RECORDS).where(here).values(changed))


def _insert(store: Store, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    insert = store.insert(QuestionAnswer).on_conflict_do_nothing()
    connection.execute(insert, rows)
    uids = [row["uid"] for row in rows]
    kept = set(connection.scalars(sa.select(RECORDS.c.uid).where(RECORDS.c.uid.in_(uids))))
    for row in rows:
        if row["uid"] not in kept:
            connection.execute(insert, {**row, **ALONE})


def _insert_renumbered(
    store: Store, connection: sa.Connection, row: dict[str, Any], moved: Moved
) -> None:
    without = {name: value for name, value in row.items() if name != "id"}
    insert = store.insert(QuestionAnswer).on_conflict_do_nothing().returning(RECORDS.c.id)
    new = connection.scalar(insert, without) or connection.scalar(insert, {**without, **ALONE})
    if row["id"] is not None and new is not None:
        moved.renumbered += 1
        _note_new_id(moved, row["id"], new)


def _count_on_from_the_last_id(store: Store, connection: sa.Connection) -> None:
    """SQLite does it by itself; PostgreSQL does not look at ids that it has not given."""
    if not store.sqlite:
        newest = "SELECT setval(pg_get_serial_sequence('question_answer', 'id'), max(id)) "
        connection.execute(sa.text(newest + "FROM question_answer HAVING max(id) IS NOT NULL"))


def _fingerprint(row: dict[str, Any]) -> int:
    shaping = ("question", "system", "params", "attachments", "follows_id")
    return fingerprint(canonical(*(row[name] for name in shaping)))


def _note_new_id(moved: Moved, old: int | None, new: int) -> None:
    if old is not None and old != new:
        moved.new_ids[old] = new


def of_lines(lines: Iterable[str]) -> Iterator[Document]:
    """The records of an export, a line each.

    Raises:
        InvalidRequest: A line is none; says which and why.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Document.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(
                f"Line {number} is no record: {where + ': ' if where else ''}{first['msg']}.",
                "What stands before it was added; correct it and import again.",
            ) from None


def of_llm(path: str) -> Iterator[Document]:
    """The records of `llm`'s own logs database, its conversations as threads.

    Raises:
        InvalidRequest: It is not such a database.
    """
    import sqlite3
    from contextlib import closing

    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            last: dict[str, int] = {}
            query = "SELECT rowid AS number, * FROM responses ORDER BY datetime_utc, rowid"
            for row in database.execute(query):
                yield _of_llm_row(dict(row), last)
    except sqlite3.Error as error:
        raise InvalidRequest(
            f"{path} is not a logs database of llm: {error}.", "Find it with: llm logs path"
        ) from None


def _of_llm_row(row: dict[str, Any], last: dict[str, int]) -> Document:
    import json
    from hashlib import sha256

    when = datetime.fromisoformat(row["datetime_utc"])
    when = when if when.tzinfo else datetime.fromisoformat(f"{row['datetime_utc']}+00:00")
    conversation, number = row.get("conversation_id"), int(row["number"])
    follows = last.get(conversation) if conversation else None
    if conversation:
        last[conversation] = number
    options = json.loads(row.get("options_json") or "{}")
    fields = {
        "id": number,
        "question": row.get("prompt") or "(no text)",
        "answer": row.get("response"),
        "created_at": when.isoformat(),
        "status": "answered" if row.get("response") else "failed",
        "error": None if row.get("response") else "broken-answer: The answer is empty.",
        "answered_at": when.isoformat() if row.get("response") else None,
        "latency_ms": row.get("duration_ms"),
        "model": row.get("resolved_model") or row.get("model"),
        "system": row.get("system"),
        "params": {"model": row.get("model"), **options},
        "prompt_tokens": row.get("input_tokens"),
        "completion_tokens": row.get("output_tokens"),
        "follows_id": follows,
        "tags": ["llm"],
        "uid": sha256(f"llm:{row['id']}".encode()).hexdigest()[:32],
    }
    return Document.model_validate(
        {
            name: storable(value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
    )
