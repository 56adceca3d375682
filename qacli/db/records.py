"""The records: everything that is asked of `question_answer`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import sqlalchemy as sa
from sqlmodel import Session, SQLModel, col, delete, select

from qacli.db.engine import Database
from qacli.db.export import PAGE, RAW, IdRange, pages, row_to_dict, rows_to_json_lines
from qacli.db.filters import Filter
from qacli.db.models import ANSWERED, BatchItem, QuestionAnswer
from qacli.db.search import (
    COMMON_MATCHES,
    MAX_RANKED,
    RECORDS,
    SearchTerm,
    fts5_query,
    parse_terms,
    rank,
    sqlite_matches,
)
from qacli.db.threads import MAX_THREAD, ancestors, descendants
from qacli.domain import ItemState, Outcome, Question, Status
from qacli.errors import DatabaseError, NotFound
from qacli.serializers import RECORD_FIELDS, field_values, record_values
from qacli.validation import MAX_ID

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

ITEM_STATES = {
    Status.ANSWERED: ItemState.ANSWERED,
    Status.FAILED: ItemState.FAILED,
}

EVERYTHING = Filter()
record_ids = col(QuestionAnswer.id)
CACHE_DAYS = 1000
"""Among how many of the newest records what was said is looked for: no index is of whole texts."""

CANDIDATES = 5

# Made once: to make it takes as long as to run it.
DOCUMENT = RAW.where(RECORDS.c.id == sa.bindparam("wanted"))


class Store(Database):
    """The records of one database, or those of one caller.

    The owner is applied here, in each method that finds, changes or removes records, so that no
    command and no route can forget it. To keep a record is not restricted: its `uid` is known only
    to the process that asks.

    Attributes:
        owner: The caller whose records are found; None finds all of them.
    """

    owner: str | None = None

    def visible_to(self, owner: str | None) -> Self:
        """Return the same store restricted to the records of this caller.

        Args:
            owner: The caller's name; None restricts nothing.
        """
        view = copy(self)  # it shares the connections
        view.owner = owner
        return view

    def narrowed(self, only: Filter) -> Filter:
        """Return the filter restricted to the owner's records."""
        return only if self.owner is None else replace(only, owner=self.owner)

    def _owned(self) -> tuple[sa.ColumnElement[bool], ...]:
        """Return the condition of the owner's records, for a query of its own."""
        return () if self.owner is None else (RECORDS.c.caller == self.owner,)

    def insert(self, table: type[SQLModel] | sa.TableClause) -> "postgresql.Insert":
        """An insert that can say what happens on a conflict; both dialects say it alike."""
        if self.sqlite:
            from sqlalchemy.dialects import sqlite

            return cast("postgresql.Insert", sqlite.insert(table))
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def upsert(self, ask: Question, outcome: Outcome) -> int:
        """Keep a question and what is known of its outcome; returns the record's id.

        The same question again only completes a record that is still `asking`: however often an
        outbox is delivered, the outcome that came first stays.

        Raises:
            DatabaseError: The database did not take it.
        """
        outcome_values = field_values(outcome)
        ours = RECORDS.c.uid == ask.uid
        unfinished = sa.and_(ours, RECORDS.c.status == Status.ASKING)
        # On the table and not its class: the class's way takes twice the time.
        statements: tuple[sa.Executable, ...] = (
            # First the update: an insert that conflicts would use up an id.
            sa.update(RECORDS).where(unfinished).values(outcome_values).returning(RECORDS.c.id),
            self.insert(RECORDS)
            .values(to_row(ask, outcome))
            .on_conflict_do_nothing(index_elements=["uid"])
            .returning(RECORDS.c.id),
            sa.select(RECORDS.c.id).where(ours),
        )
        with self.transaction(write=True) as connection:
            for statement in statements:
                kept: int | None = connection.execute(statement).scalar_one_or_none()
                if kept is not None:
                    return kept
        raise DatabaseError("The database did not keep the record.")

    def id_for_uid(self, uid: str) -> int | None:
        """The id of the record of a question; None where there is none."""
        with self.transaction() as connection:
            query = sa.select(RECORDS.c.id).where(RECORDS.c.uid == uid, *self._owned())
            found = connection.execute(query)
            record_id: int | None = found.scalar_one_or_none()
        return record_id

    def upsert_items(self, batch_id: int, settled: Sequence[tuple[Question, Outcome]]) -> None:
        """Keep what has become of items of a batch, all in one transaction.

        An item has one record: a later answer takes the place of an earlier failure, and an
        answer stays. So the same again changes nothing.

        Raises:
            DatabaseError: The database did not take it.
        """
        insert = self.insert(RECORDS)
        columns = [name for name in RECORD_FIELDS if name not in {"id", "batch_id", "item_key"}]
        upsert = insert.on_conflict_do_update(
            index_elements=["batch_id", "item_key"],
            set_={name: insert.excluded[name] for name in (*columns, "fingerprint")},
            where=RECORDS.c.status != Status.ANSWERED,
        )
        keys: dict[ItemState, list[str | None]] = {}
        for ask, outcome in settled:
            # What was interrupted waits again once its worker has left: it may be asked by now.
            if outcome.status in ITEM_STATES:
                keys.setdefault(ITEM_STATES[outcome.status], []).append(ask.item_key)
        with self.transaction(write=True) as connection:
            connection.execute(upsert, [to_row(ask, outcome) for ask, outcome in settled])
            for state, names in keys.items():
                connection.execute(
                    sa.update(BatchItem)
                    .where(col(BatchItem.batch_id) == batch_id, col(BatchItem.key).in_(names))
                    .where(col(BatchItem.state) != ItemState.ANSWERED)
                    .values(state=state, worker=None)
                )

    def get(self, record_id: int) -> QuestionAnswer:
        """Return one record.

        Raises:
            NotFound: There is none with that id, or it is another caller's.
        """
        record = self._find(record_id)
        if record is None:
            raise record_not_found(record_id)
        return record

    def _find(self, record_id: int) -> QuestionAnswer | None:
        if not 0 < record_id <= MAX_ID:
            return None
        with self.session() as session:
            record = session.get(QuestionAnswer, record_id)
        if record is not None and self.owner is not None and record.caller != self.owner:
            return None
        return record

    def get_dict(self, record_id: int) -> dict[str, Any]:
        """Return one record as JSON has it; faster than `get`.

        Raises:
            NotFound: There is none with that id, or it is another caller's.
        """
        row = None
        if 0 < record_id <= MAX_ID:
            with self.reading() as connection:
                row = connection.execute(DOCUMENT, {"wanted": record_id}).one_or_none()
        if row is None:
            raise record_not_found(record_id)
        found = row_to_dict(row)
        if self.owner is not None and found["caller"] != self.owner:
            raise record_not_found(record_id)
        return found

    def by_uid(self, uid: str) -> QuestionAnswer | None:
        """The record of the question of that name, if there is one."""
        return self._only(col(QuestionAnswer.uid) == uid)

    def by_idempotency_key(self, idempotency_key: str, caller: str | None) -> QuestionAnswer | None:
        """Return the record that this caller asked with the key, if there is one.

        Args:
            idempotency_key: The key; each caller has its own ones.
            caller: The caller; None has the keys of records without a caller.
        """
        # `== None` becomes IS NULL, which the index of such records needs.
        of_caller = col(QuestionAnswer.caller) == caller
        return self._only(
            sa.and_(of_caller, col(QuestionAnswer.idempotency_key) == idempotency_key)
        )

    def release_idempotency_key(self, uid: str) -> None:
        """Take the idempotency key off a record that ended without an answer."""
        unanswered = RECORDS.c.status.in_([Status.FAILED, Status.INTERRUPTED])
        freed = sa.update(RECORDS).where(RECORDS.c.uid == uid, unanswered, *self._owned())
        with self.transaction(write=True) as connection:
            connection.execute(freed.values(idempotency_key=None))

    def _only(self, condition: sa.ColumnElement[bool]) -> QuestionAnswer | None:
        with self.session() as session:
            query = select(QuestionAnswer).where(condition, *self._owned())
            return session.exec(query).one_or_none()

    def find_cached(self, ask: Question) -> QuestionAnswer | None:
        """The newest answered record of the very same question, if there is one.

        The same in all that shapes the answer: the model asked for, system prompt, params,
        attachments, and what it follows up.
        """
        query = (
            select(QuestionAnswer)
            .where(col(QuestionAnswer.fingerprint) == ask.cache_key, ANSWERED, *self._owned())
            .order_by(record_ids.desc())
            .limit(1)
        )
        with self.session() as session:
            found = session.exec(query).first()
        # Two questions can have one fingerprint; then there is nothing to find, which is no harm.
        return (
            found if found is not None and found.canonical_json() == ask.canonical_json() else None
        )

    def newest(self, number: int = 1) -> QuestionAnswer:
        """The newest record, or the one that was the newest so many records ago.

        Raises:
            NotFound: There are not so many yet.
        """
        query = select(QuestionAnswer).where(*self._owned()).order_by(record_ids.desc())
        with self.session() as session:
            record = session.exec(query.offset(min(number, MAX_ID) - 1).limit(1)).first()
        if record is None:
            found = "There is no record" if number == 1 else f"There are not {number} records"
            raise NotFound(f"{found} yet.", 'Ask something: qa ask "Who am I?"')
        return record

    def thread(self, record_id: int, limit: int = MAX_THREAD) -> list[QuestionAnswer]:
        """Return the record and all that it follows up, the oldest first, in one query.

        See `qacli.db.threads.ancestors` for where a thread ends.

        Args:
            record_id: The record.
            limit: The number of records at most: the newest ones.

        Raises:
            NotFound: There is no record with that id.
        """
        chain = ancestors(require_id(record_id), self.owner, limit)
        query = select(QuestionAnswer).join(chain, chain.c.id == record_ids)
        with self.session() as session:
            records = list(session.exec(query.order_by(chain.c.depth.desc())))
        if not records:
            raise record_not_found(record_id)
        return records

    def thread_ids(self, record_id: int, limit: int = MAX_THREAD) -> list[int]:
        """Return the ids of a record and of those that it follows up, the newest first.

        Raises:
            NotFound: There is no record with that id.
        """
        chain = ancestors(require_id(record_id), self.owner, limit)
        with self.reading() as connection:
            ids = list(connection.scalars(sa.select(chain.c.id).order_by(chain.c.depth)))
        if not ids:
            raise record_not_found(record_id)
        return ids

    def followers(self, record_id: int, limit: int) -> list[QuestionAnswer]:
        """Return the records below a record, the oldest first, up to the first branch.

        Args:
            record_id: The record.
            limit: The number of records at most.
        """
        chain = descendants(record_id, self.owner, limit)
        query = select(QuestionAnswer).join(chain, chain.c.id == record_ids)
        with self.session() as session:
            below = query.where(record_ids != record_id).order_by(chain.c.depth)
            return list(session.exec(below))

    def get_many(self, ids: Sequence[int]) -> list[QuestionAnswer]:
        """Return the records with these ids, in this order, without those that do not exist."""
        query = select(QuestionAnswer).where(record_ids.in_(ids), *self._owned())
        with self.session() as session:
            records = {record.id: record for record in session.exec(query)}
        return [records[number] for number in ids if number in records]

    def find_by_text(self, question: str, answer: str) -> list[int]:
        """The newest records of exactly this question and answer, the newest first."""
        columns = (RECORDS.c.id, RECORDS.c.question, RECORDS.c.answer)
        own = sa.select(*columns).where(*self._owned())
        newest = own.order_by(RECORDS.c.id.desc()).limit(CACHE_DAYS).subquery()
        query = (
            sa.select(newest.c.id)
            .where(newest.c.question == question, newest.c.answer == answer)
            .order_by(newest.c.id.desc())
            .limit(CANDIDATES)
        )
        with self.transaction() as connection:
            return list(connection.scalars(query))

    def page(
        self,
        *,
        limit: int,
        after: int | None = None,
        before: int | None = None,
        newest_first: bool = False,
        only: Filter = EVERYTHING,
    ) -> list[QuestionAnswer]:
        """Records in the order of their ids, by keyset: as quick at the end as at the start.

        Args:
            limit: How many at the most.
            after: Only ids above this one.
            before: Only ids below this one.
            newest_first: From the newest id down, instead of from the oldest up.
            only: Which records.
        """
        query = select(QuestionAnswer).limit(min(limit, MAX_ID))
        if after is not None:
            query = query.where(max(min(after, MAX_ID), -1) < record_ids)
        if before is not None:
            query = query.where(max(min(before, MAX_ID), -1) > record_ids)
        query = query.where(*self.narrowed(only).conditions(sqlite=self.sqlite))
        query = query.order_by(record_ids.desc() if newest_first else record_ids)
        with self.session() as session:
            return list(session.exec(query))

    def search(self, only: Filter, limit: int) -> list[QuestionAnswer]:
        """The records that fit a search best, the best first; among the newest that fit at all."""
        only = self.narrowed(only)
        wanted = [term for term in parse_terms(only.search or "") if term.is_indexed]
        newest: Any = (
            sa.select(record_ids)
            .where(*only.conditions(sqlite=self.sqlite))
            .order_by(record_ids.desc())
            .limit(MAX_RANKED)
        )
        if self.sqlite and only.in_index:
            newest = sqlite_matches(wanted, newest=MAX_RANKED)
        query = select(QuestionAnswer).where(record_ids.in_(newest)).limit(min(limit, MAX_ID))
        with self.session() as session:
            if (fit := rank(only.search or "", sqlite=self.sqlite)) is not None:
                if not self.sqlite:
                    query = query.order_by(fit)
                elif not _is_common(session, wanted):
                    index = sa.text(
                        "question_answer_search.rowid = question_answer.id "
                        "AND question_answer_search MATCH :fits"
                    ).bindparams(fits=fts5_query(wanted))
                    query = query.join(sa.table("question_answer_search"), index).order_by(fit)
            return list(session.exec(query.order_by(record_ids.desc())))

    def iterate(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        only: Filter = EVERYTHING,
    ) -> Iterator[QuestionAnswer]:
        """Records from the oldest up, however many, a page at a time in memory."""
        last, left = after, MAX_ID if limit is None else limit
        while left > 0:
            page = self.page(limit=min(left, PAGE), after=last, before=before, only=only)
            yield from page
            if len(page) < PAGE:
                return
            last, left = page[-1].id, left - len(page)

    def dicts(
        self, only: Filter = EVERYTHING, **stretch: Unpack[IdRange]
    ) -> Iterator[dict[str, Any]]:
        """Records as JSON has them: quicker than `walk`, a page in memory."""
        for rows in pages(self, self.narrowed(only), **stretch):
            yield from map(row_to_dict, rows)

    def json_lines(self, only: Filter = EVERYTHING, **stretch: Unpack[IdRange]) -> Iterator[str]:
        """The same as lines of JSON, without their ends: quicker still."""
        for rows in pages(self, self.narrowed(only), **stretch):
            yield from rows_to_json_lines(rows)

    def count(self, only: Filter = EVERYTHING) -> int:
        """How many records there are."""
        query = sa.select(sa.func.count()).select_from(RECORDS)
        with self.transaction() as connection:
            conditions = self.narrowed(only).conditions(sqlite=self.sqlite)
            number = connection.scalar(query.where(*conditions))
        return number or 0

    def change_tags(self, record_id: int, add: Sequence[str], remove: Sequence[str]) -> list[str]:
        """Add tags to a record and take others off; returns those that it has then.

        Raises:
            NotFound: There is no such record.
        """
        self.get(record_id)
        ours = RECORDS.c.id == record_id
        with self.transaction(write=True) as connection:
            lock = sa.select(RECORDS.c.tags).where(ours).with_for_update()
            before: list[str] = connection.scalar(lock) or []
            after = [tag for tag in before if tag not in remove]
            after += [tag for tag in dict.fromkeys(add) if tag not in after]
            connection.execute(sa.update(RECORDS).where(ours).values(tags=after))
        return after

    def remove(self, record_id: int) -> None:
        """Remove a record.

        Raises:
            NotFound: There is none with that id, or it is another caller's.
        """
        removed = 0
        if 0 < record_id <= MAX_ID:
            query = delete(QuestionAnswer).where(record_ids == record_id, *self._owned())
            with self.session(write=True) as session:
                removed = session.exec(query).rowcount
        if not removed:
            raise record_not_found(record_id)

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """A session in a transaction of its own; what it gives stays usable afterwards."""
        with (
            self.transaction(write=write) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session
            session.commit()


def to_row(ask: Question, outcome: Outcome) -> dict[str, Any]:
    """A record's values as the database takes them."""
    return {**record_values(ask, outcome), "fingerprint": ask.cache_key}


def require_id(record_id: int) -> int:
    """Return an id that a record can have.

    Raises:
        NotFound: No record can have it.
    """
    if not 0 < record_id <= MAX_ID:
        raise record_not_found(record_id)
    return record_id


def record_not_found(*ids: int) -> NotFound:
    """What a command or a request is told that names records which are not there."""
    named = ", ".join(map(str, ids))
    return NotFound(f"There is no record {named}.", "List what there is: qa list")


def _is_common(session: Session, wanted: list[SearchTerm]) -> bool:
    """Whether more records have the terms than SQLite can rank in no time."""
    found = sqlite_matches(wanted, newest=COMMON_MATCHES + 1).columns(sa.column("rowid")).subquery()
    number = session.scalar(sa.select(sa.func.count()).select_from(found))
    return (number or 0) > COMMON_MATCHES
