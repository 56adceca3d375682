"""Store and change records."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlmodel import col

from qacli.batch_states import ItemState
from qacli.db.models import RECORDS, Batch, BatchItem
from qacli.db.record_queries import RecordQueries, record_not_found, require_id
from qacli.db.shared_values import (
    delete_unused_values,
    ids_of_values,
    separate_values,
    share_values,
)
from qacli.domain import Outcome, Question, Status
from qacli.errors import Cancelled
from qacli.record_fields import RECORD_FIELDS
from qacli.serializers import field_values, record_values

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

RecordCheck = Callable[[dict[str, Any]], None]
"""Called with a record, as JSON has it, in the transaction that changes it: raises an error if the
record may not be changed. The record is locked, and nothing else may use the database."""

ITEM_STATES = {
    Status.ANSWERED: ItemState.ANSWERED,
    Status.FAILED: ItemState.FAILED,
}

# Built once, because building a statement takes as long as running it.
IDS = (RECORDS.c.uid, RECORDS.c.id)
UPDATE_ASKING = sa.update(RECORDS).where(
    RECORDS.c.uid == sa.bindparam("of_uid"), RECORDS.c.status == Status.ASKING
)
UPDATE_ASKING_ONE = UPDATE_ASKING.returning(RECORDS.c.id)
UPDATE_FAILED = sa.update(RECORDS).where(
    RECORDS.c.uid == sa.bindparam("of_uid"), RECORDS.c.status == Status.FAILED
)
SELECT_IDS = sa.select(*IDS).where(RECORDS.c.uid.in_(sa.bindparam("uids", expanding=True)))
VALUE_IDS = (RECORDS.c.system_id, RECORDS.c.params_id)
UNSYNCED = sa.func.set_config("synchronous_commit", "off", True)  # noqa: FBT003 - of SQL
"""In the RETURNING of PostgreSQL: the transaction does not wait for the disk when it commits, see
https://www.postgresql.org/docs/current/wal-async-commit.html."""
SELECT_CANCELLED = sa.select(RECORDS.c.uid).where(
    RECORDS.c.uid.in_(sa.bindparam("uids", expanding=True)),
    RECORDS.c.status == Status.ASKING,
    RECORDS.c.error_kind == Cancelled.kind,
)
DELETE_RESERVED = (
    sa.delete(RECORDS)
    .where(
        RECORDS.c.uid.in_(sa.bindparam("uids", expanding=True)), RECORDS.c.status == Status.ASKING
    )
    .returning(*VALUE_IDS)
)
DERIVED_COLUMNS = ("fingerprint", "system_id", "params_id")
"""The columns that are no fields of a record."""

COUNTS = (
    *("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"),
    "cost_usd",
)


class Store(RecordQueries):
    """The records of one database, or those of one caller.

    The owner is applied in each method that reads, changes or deletes records, so that no command
    and no route can forget it. Storing a record is not restricted: its `uid` is known only to the
    process that asks.
    """

    def upsert(self, question: Question, outcome: Outcome) -> int:
        """Store a question with its outcome so far; return the record's id.

        See `upsert_many`.
        """
        return self.upsert_many([(question, outcome)])[question.uid]

    def upsert_many(self, group: Sequence[tuple[Question, Outcome]]) -> dict[str, int]:
        """Store questions with their outcomes so far in one transaction; return the ids by uid.

        Of the records that exist, only those that are still `asking` are completed. So a journal
        can be delivered any number of times, and the first outcome stays.

        Raises:
            RecordRefused: The database does not accept one of them, and has stored none of them.
            DatabaseError: The database cannot be used.
        """
        if len(group) == 1 and (record_id := self._upsert_at_once(*group[0])) is not None:
            return {group[0][0].uid: record_id}
        reserved = [to_row(*pair) for pair in group if pair[1].status is Status.ASKING]
        finished = [_to_changes(*pair) for pair in group if pair[1].status is not Status.ASKING]
        ids: dict[str, int] = {}

        def insert(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
            """Add rows and their ids; then the ids of the records that the database had before."""
            if rows:
                values = share_values(self, connection, rows)
                insert = self._insert_new.returning(*IDS)
                ids.update(_ids(connection.execute(insert, values)))
            if uids := [question.uid for question, _ in group if question.uid not in ids]:
                ids.update(_ids(connection.execute(SELECT_IDS, {"uids": uids})))

        with self.transaction(write=True) as connection:
            if finished:
                # Sorted, as in `save_partial_answers`: both lock rows one after the other.
                finished.sort(key=itemgetter("of_uid"))
                connection.execute(UPDATE_ASKING, finished)
            insert(connection, reserved)
            # Records that were deleted meanwhile, or were never reserved. They come last: an
            # insert that conflicts would use up an id.
            if new := [to_row(*pair) for pair in group if pair[0].uid not in ids]:
                insert(connection, new)
        return ids

    @cached_property
    def _insert_one(self) -> sa.Executable:
        return self._insert_new.returning(RECORDS.c.id)

    @cached_property
    def _insert_unsynced(self) -> sa.Executable:
        return self._insert_new.returning(RECORDS.c.id, UNSYNCED)

    @property
    def _insert_new(self) -> "postgresql.Insert":
        return self.insert(RECORDS).on_conflict_do_nothing(index_elements=["uid"])

    def _upsert_at_once(self, question: Question, outcome: Outcome) -> int | None:
        """Store a new record, or an outcome, in one message to the database; return its id.

        Returns None, and stores nothing, if that is not enough. The journal has the question of a
        record that is only reserved, so PostgreSQL need not sync it, unless it reserves a key too.
        """
        if outcome.status is Status.ASKING:
            [row], texts = separate_values([to_row(question, outcome)])
            if texts:
                return None
            is_synced = self.sqlite or question.idempotency_key is not None
            statement = self._insert_one if is_synced else self._insert_unsynced
        else:
            statement, row = UPDATE_ASKING_ONE, _to_changes(question, outcome)
        with self.writing_one() as connection:
            record_id: int | None = connection.execute(statement, row).scalar()
        return record_id

    def replace_failure(self, question: Question, outcome: Outcome) -> None:
        """Store the answer to a question whose record has failed; other records stay as they are.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with self.transaction(write=True) as connection:
            connection.execute(UPDATE_FAILED, _to_changes(question, outcome))

    def upsert_items(self, batch_id: int, results: Sequence[tuple[Question, Outcome]]) -> None:
        """Store the outcomes of items of a batch, and add their costs to the batch's, as one.

        An item has one record: a later outcome replaces a failure, but never an answer. So storing
        the same outcome again changes nothing.

        Raises:
            DatabaseError: The records could not be stored.
        """
        with self.transaction(write=True) as connection:
            self.write_items(connection, batch_id, results)

    def write_items(
        self,
        connection: sa.Connection,
        batch_id: int,
        results: Sequence[tuple[Question, Outcome]],
    ) -> None:
        """Store the outcomes of items in a transaction that is open; see `upsert_items`."""
        if not results:
            return
        insert = self.insert(RECORDS)
        columns = [name for name in RECORD_FIELDS if name not in {"id", "batch_id", "item_key"}]
        upsert = insert.on_conflict_do_update(
            index_elements=["batch_id", "item_key"],
            set_={name: insert.excluded[name] for name in (*columns, *DERIVED_COLUMNS)},
            where=RECORDS.c.status != Status.ANSWERED,
        )
        keys: dict[ItemState, list[str | None]] = {}
        for question, outcome in results:
            # An interrupted item keeps its state: it waits again once its worker has ended.
            if outcome.status in ITEM_STATES:
                keys.setdefault(ITEM_STATES[outcome.status], []).append(question.item_key)
        spent = _new_costs(connection, batch_id, results)
        rows = share_values(self, connection, [to_row(*result) for result in results])
        connection.execute(upsert, rows)
        for state, names in keys.items():
            connection.execute(
                sa.update(BatchItem)
                .where(col(BatchItem.batch_id) == batch_id, col(BatchItem.key).in_(names))
                .where(col(BatchItem.state) != ItemState.ANSWERED)
                .values(state=state, worker=None)
            )
        if spent:
            # Last: other workers wait for this row until the transaction ends.
            own = sa.update(Batch).where(col(Batch.id) == batch_id)
            connection.execute(own.values(spent_usd=col(Batch.spent_usd) + spent))

    def save_partial_answers(
        self, texts: Mapping[str, tuple[str | None, str | None]], uids: Sequence[str]
    ) -> list[str]:
        """Store the text so far of answers that are arriving; a complete record stays as it is.

        Args:
            texts: The answer and the reasoning of those that have grown, by the questions' uids.
            uids: All questions whose answers are arriving.

        Returns:
            The uids of the questions that are to be cancelled; see `request_cancel`.

        Raises:
            DatabaseError: The database cannot be used.
        """
        rows = [
            {"of_uid": uid, "answer": text[0], "reasoning": text[1]}
            for uid, text in sorted(texts.items())
        ]
        with self.transaction(write=bool(rows)) as connection:
            if rows:
                connection.execute(UPDATE_ASKING, rows)
            return list(connection.scalars(SELECT_CANCELLED, {"uids": list(uids)}))

    def request_cancel(self, record_id: int) -> bool:
        """Ask the process that receives the answer of a record to cancel it.

        The request is the error kind `cancelled` in a record that is still `asking`. Returns False
        if the record is not `asking`.

        Raises:
            NotFound: The record does not exist, or belongs to another caller.
        """
        self.get(record_id)
        own = (RECORDS.c.id == record_id, RECORDS.c.status == Status.ASKING)
        request = {"error_kind": Cancelled.kind, "error": "A client has asked to cancel it."}
        with self.transaction(write=True) as connection:
            return bool(connection.execute(sa.update(RECORDS).where(*own).values(request)).rowcount)

    def release_idempotency_key(self, uid: str) -> None:
        """Remove the idempotency key of a record that ended without an answer."""
        unanswered = RECORDS.c.status.in_([Status.FAILED, Status.INTERRUPTED])
        update = sa.update(RECORDS).where(RECORDS.c.uid == uid, unanswered, *self._owned())
        with self.transaction(write=True) as connection:
            connection.execute(update.values(idempotency_key=None))

    def change_tags(
        self,
        record_id: int,
        add: Sequence[str],
        remove: Sequence[str],
        check: RecordCheck | None = None,
    ) -> list[str]:
        """Add tags to a record and remove others; return the resulting tags.

        Args:
            record_id: The record.
            add: Tags to add.
            remove: Tags to remove.
            check: See `RecordCheck`.

        Raises:
            NotFound: The record does not exist, or belongs to another caller.
        """
        self.get(record_id)
        own = RECORDS.c.id == record_id
        with self.transaction(write=True) as connection:
            self._check(connection, record_id, check)
            lock = sa.select(RECORDS.c.tags).where(own).with_for_update()
            before: list[str] = connection.scalar(lock) or []
            after = [tag for tag in before if tag not in remove]
            after += [tag for tag in dict.fromkeys(add) if tag not in after]
            connection.execute(sa.update(RECORDS).where(own).values(tags=after))
        return after

    def annotate(self, record_id: int, **values: object) -> None:
        """Set the fields `title` and `rating` of a record; the values have been checked.

        Raises:
            NotFound: The record does not exist, or belongs to another caller.
        """
        own = (RECORDS.c.id == require_id(record_id), *self._owned())
        with self.transaction(write=True) as connection:
            number = connection.execute(sa.update(RECORDS).where(*own).values(**values)).rowcount
        if not number:
            raise record_not_found(record_id)

    def add_title(self, record_id: int, title: str | None, outcome: Outcome) -> None:
        """Set the title of a record that has none, and add its tokens and cost to the record's.

        A count that the record does not have, or the title, stays as it is.

        Args:
            record_id: The record.
            title: The title; None adds only the counts.
            outcome: The outcome of the request for the title.

        Raises:
            NotFound: The record does not exist, or belongs to another caller.
        """
        values = {name: getattr(outcome, name) for name in COUNTS}
        changes = {
            name: RECORDS.c[name] + value for name, value in values.items() if value is not None
        }
        self.annotate(record_id, title=sa.func.coalesce(RECORDS.c.title, title), **changes)

    def remove(self, record_id: int, check: RecordCheck | None = None) -> None:
        """Delete a record.

        Args:
            record_id: The record.
            check: See `RecordCheck`.

        Raises:
            NotFound: The record does not exist, or belongs to another caller.
        """
        query = sa.delete(RECORDS).where(RECORDS.c.id == require_id(record_id), *self._owned())
        with self.transaction(write=True) as connection:
            self._check(connection, record_id, check)
            rows = connection.execute(query.returning(*VALUE_IDS)).all()
        if not rows:
            raise record_not_found(record_id)
        delete_unused_values(self, ids_of_values(rows))

    def _check(self, connection: sa.Connection, record_id: int, check: RecordCheck | None) -> None:
        """Lock a record in an open transaction, and check it; without a check, do nothing."""
        if check is not None:
            own = (RECORDS.c.id == record_id, *self._owned())
            connection.execute(sa.select(RECORDS.c.id).where(*own).with_for_update())
            check(self._dict_in(connection, record_id))

    def delete_reserved(self, uids: Sequence[str]) -> None:
        """Delete records that are still `asking`, because their questions were not sent.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with self.transaction(write=True) as connection:
            rows = connection.execute(DELETE_RESERVED, {"uids": list(uids)}).all()
        delete_unused_values(self, ids_of_values(rows))


def to_row(question: Question, outcome: Outcome) -> dict[str, Any]:
    """Return a record's values as the database takes them."""
    return {**record_values(question, outcome), "fingerprint": question.cache_key}


def _to_changes(question: Question, outcome: Outcome) -> dict[str, Any]:
    """Return the parameters of `UPDATE_ASKING` and `UPDATE_FAILED`."""
    return {"of_uid": question.uid, **field_values(outcome)}


def _ids(rows: sa.CursorResult[Any]) -> dict[str, int]:
    """Return the ids of records by their uids."""
    return {row.uid: row.id for row in rows}


def _new_costs(
    connection: sa.Connection, batch_id: int, results: Sequence[tuple[Question, Outcome]]
) -> float:
    """Return the US dollars of the outcomes that are not stored yet.

    The cost of an earlier record that a new one replaces was paid, and stays counted.
    """
    costs = {question.item_key: (question.uid, outcome.cost_usd) for question, outcome in results}
    if not any(cost for _, cost in costs.values()):
        return 0.0
    query = sa.select(RECORDS.c.item_key, RECORDS.c.uid, RECORDS.c.cost_usd).where(
        RECORDS.c.batch_id == batch_id, RECORDS.c.item_key.in_(costs)
    )
    stored = {row.item_key: (row.uid, row.cost_usd) for row in connection.execute(query)}
    total = 0.0
    for key, (uid, cost) in costs.items():
        stored_uid, stored_cost = stored.get(key, ("", 0.0))
        total += (cost or 0.0) - ((stored_cost or 0.0) if stored_uid == uid else 0.0)
    return total
