"""Add records from elsewhere to a history; `qacli.db.import_source` reads them.

The uid identifies a record, so the same import again adds nothing. A record keeps its id where the
id is free. Where another record has it, the imported one gets a new id, and `follows_id` and
`corrects_id` of its follow-ups are changed to match.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import sqlalchemy as sa
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from qacli.cache_key import cache_key, canonical_json
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.db.search import RECORDS
from qacli.errors import InvalidRequest
from qacli.serializers import (
    FIELD_TYPES,
    INT_FIELDS,
    JSON_FIELDS,
    RECORD_FIELDS,
    TIME_FIELDS,
    with_error_kind,
)
from qacli.validation import MAX_ID, validate_text

CHUNK_SIZE = 1000
IMPORT_LOCK = {"idempotency_key": None, "batch_id": None, "item_key": None}
"""What a record is left without where another one here has its key, or its place in a batch."""


REQUIRED_FIELDS = frozenset({"question", "created_at", "status", "uid"})


def _import_field(name: str) -> tuple[Any, Any]:
    """Return the type and the default of a field in an export."""
    kind = FIELD_TYPES[name]
    if name == "id":
        return Annotated[int, Field(gt=0, le=MAX_ID)] | None, None
    if name == "uid":
        kind = Annotated[str, Field(min_length=1, max_length=32)]
    elif name in INT_FIELDS:
        kind = Annotated[int, Field(ge=0, le=MAX_ID)] | None
    elif name in TIME_FIELDS:
        kind = AwareDatetime if name in REQUIRED_FIELDS else AwareDatetime | None
    if name in REQUIRED_FIELDS:
        return kind, ...
    return kind, Field(default_factory=get_origin(kind)) if name in JSON_FIELDS else None


if TYPE_CHECKING:
    _Fields = BaseModel
else:
    _Fields = create_model(
        "_Fields",
        __config__=ConfigDict(extra="forbid", allow_inf_nan=False),
        **{name: _import_field(name) for name in RECORD_FIELDS},
    )


class ImportedRecord(_Fields):
    """A record as an export has it."""

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, values: Any) -> Any:  # noqa: ANN401 - any JSON
        return with_error_kind(values) if isinstance(values, dict) else values

    def row(self) -> dict[str, Any]:
        """The values as the database takes them.

        Raises:
            InvalidRequest: One of them is a text that no database can hold.
        """
        values = dict(self)
        validate_text(values, "a field")
        return {**values, "fingerprint": _fingerprint(values)}


@dataclass(slots=True)
class ImportResult:
    """The counts of an import.

    Attributes:
        added: Records that were added.
        there: Records that the history had already.
        renumbered: Added records that got another id.
        new_ids: The ids of records in this history that have another id in the import, by that id.
    """

    added: int = 0
    skipped: int = 0
    renumbered: int = 0
    new_ids: dict[int, int] = field(default_factory=dict)


def import_records(
    store: Store, documents: Iterable[ImportedRecord], moved: ImportResult | None = None
) -> ImportResult:
    """Add records, a thousand to a transaction.

    Args:
        store: The history.
        documents: The records; one that follows up another comes after it.
        moved: Where to count; after an error it has the counts of what was added until then.

    Raises:
        InvalidRequest: A record cannot be read or stored. Those before it have been added.
    """
    moved = ImportResult() if moved is None else moved
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
            if len(page) == CHUNK_SIZE:
                yield page
                page = []
    except InvalidRequest:
        yield page
        raise
    yield page


def _add(
    store: Store, connection: sa.Connection, page: list[dict[str, Any]], moved: ImportResult
) -> None:
    uids = [row["uid"] for row in page]
    same = sa.select(RECORDS.c.uid, RECORDS.c.id).where(RECORDS.c.uid.in_(uids))
    there = {uid: record_id for uid, record_id in connection.execute(same)}  # noqa: C416 - rows
    wanted = [row["id"] for row in page if row["id"] is not None]
    taken = set(connection.scalars(sa.select(RECORDS.c.id).where(RECORDS.c.id.in_(wanted))))
    fresh: list[dict[str, Any]] = []
    crowded: list[dict[str, Any]] = []
    for row in page:
        if row["uid"] in there:
            moved.skipped += 1
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
        links = {
            name: moved.new_ids[row[name]]
            for name in ("follows_id", "corrects_id")
            if row[name] in moved.new_ids
        }
        if links:
            here = RECORDS.c.uid == row["uid"]
            changed = {**links, "fingerprint": _fingerprint({**row, **links})}
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
            connection.execute(insert, {**row, **IMPORT_LOCK})


def _insert_renumbered(
    store: Store, connection: sa.Connection, row: dict[str, Any], moved: ImportResult
) -> None:
    without = {name: value for name, value in row.items() if name != "id"}
    insert = store.insert(QuestionAnswer).on_conflict_do_nothing().returning(RECORDS.c.id)
    new = connection.scalar(insert, without) or connection.scalar(
        insert, {**without, **IMPORT_LOCK}
    )
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
    return cache_key(canonical_json(*(row[name] for name in shaping)))


def _note_new_id(moved: ImportResult, old: int | None, new: int) -> None:
    if old is not None and old != new:
        moved.new_ids[old] = new


def from_jsonl(lines: Iterable[str]) -> Iterator[ImportedRecord]:
    """Return the records of a JSON Lines export.

    Raises:
        InvalidRequest: A line is not a record; the message has its number and the reason.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield ImportedRecord.model_validate_json(line)
        except ValidationError as error:
            raise not_a_record(f"Line {number}", error) from None


def not_a_record(where: str, error: ValidationError) -> InvalidRequest:
    """Return the error for a line or a row that is not a record.

    Args:
        where: The place in the file, at the beginning of a sentence.
        error: The reason.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return InvalidRequest(
        f"{where} is not a record: {field + ': ' if field else ''}{first['msg']}.",
        "The records before it were added; correct it and import again.",
    )
