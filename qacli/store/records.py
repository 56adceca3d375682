"""The records: everything that is asked of `question_answer`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, delete, select

from qacli.errors import DatabaseError, NotFound
from qacli.exchange import (
    FIELDS,
    MAX_ID,
    Ask,
    ItemState,
    Outcome,
    Status,
    fields_of,
    plain,
    values_of,
)
from qacli.models import BatchItem, QuestionAnswer
from qacli.store.database import Database
from qacli.store.filters import RANKED, RECORDS, Filter, match_of, rank, terms

ITEM_STATES = {
    Status.ANSWERED: ItemState.ANSWERED,
    Status.FAILED: ItemState.FAILED,
}

EVERYTHING = Filter()
record_ids = col(QuestionAnswer.id)
PAGE = 1000
LONGEST_THREAD = 1000


class Store(Database):
    """The records of one database."""

    def insert(self, table: type[SQLModel] | sa.TableClause) -> postgresql.Insert:
        """An insert that can say what happens on a conflict; both dialects say it alike."""
        statement = sqlite.insert(table) if self.sqlite else postgresql.insert(table)
        return cast("postgresql.Insert", statement)

    def keep(self, ask: Ask, outcome: Outcome) -> int:
        """Keep a question and what is known of its outcome; returns the record's id.

        The same question again only completes a record that is still `asking`: however often an
        outbox is delivered, the outcome that came first stays.

        Raises:
            DatabaseError: The database did not take it.
        """
        outcome_values = fields_of(outcome)
        ours = RECORDS.c.uid == ask.uid
        unfinished = sa.and_(ours, RECORDS.c.status == Status.ASKING)
        # On the table and not its class: the class's way takes twice the time.
        statements: tuple[sa.Executable, ...] = (
            # First the update: an insert that conflicts would use up an id.
            sa.update(RECORDS).where(unfinished).values(outcome_values).returning(RECORDS.c.id),
            self.insert(RECORDS)
            .values(values_of(ask, outcome))
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

    def keep_items(self, batch_id: int, settled: Sequence[tuple[Ask, Outcome]]) -> None:
        """Keep what has become of items of a batch, all in one transaction.

        An item has one record: a later answer takes the place of an earlier failure, and an
        answer stays. So the same again changes nothing.

        Raises:
            DatabaseError: The database did not take it.
        """
        insert = self.insert(RECORDS)
        columns = [name for name in FIELDS if name not in {"id", "batch_id", "item_key"}]
        upsert = insert.on_conflict_do_update(
            index_elements=["batch_id", "item_key"],
            set_={name: insert.excluded[name] for name in columns},
            where=RECORDS.c.status != Status.ANSWERED,
        )
        keys: dict[ItemState, list[str | None]] = {}
        for ask, outcome in settled:
            # What was interrupted waits again once its worker has left: it may be asked by now.
            if outcome.status in ITEM_STATES:
                keys.setdefault(ITEM_STATES[outcome.status], []).append(ask.item_key)
        with self.transaction(write=True) as connection:
            connection.execute(upsert, [values_of(ask, outcome) for ask, outcome in settled])
            for state, names in keys.items():
                connection.execute(
                    sa.update(BatchItem)
                    .where(col(BatchItem.batch_id) == batch_id, col(BatchItem.key).in_(names))
                    .where(col(BatchItem.state) != ItemState.ANSWERED)
                    .values(state=state, worker=None)
                )

    def get(self, record_id: int) -> QuestionAnswer:
        """One record.

        Raises:
            NotFound: There is none with that id.
        """
        if 0 < record_id <= MAX_ID:
            with self.session() as session:
                record = session.get(QuestionAnswer, record_id)
            if record is not None:
                return record
        raise NotFound(f"There is no record {record_id}.", "List what there is: qa list")

    def document(self, record_id: int) -> dict[str, Any]:
        """One record as JSON has it: quicker than `get`.

        Raises:
            NotFound: There is none with that id.
        """
        columns = [RECORDS.c[name] for name in FIELDS]
        row = None
        if 0 < record_id <= MAX_ID:
            with self.transaction() as connection:
                found = connection.execute(sa.select(*columns).where(RECORDS.c.id == record_id))
                row = found.one_or_none()
        if row is None:
            raise NotFound(f"There is no record {record_id}.", "List what there is: qa list")
        return {name: plain(value) for name, value in zip(FIELDS, row, strict=True)}

    def last(self, number: int = 1) -> QuestionAnswer:
        """The newest record, or the one that was the newest so many records ago.

        Raises:
            NotFound: There are not so many yet.
        """
        query = select(QuestionAnswer).order_by(record_ids.desc())
        with self.session() as session:
            record = session.exec(query.offset(min(number, MAX_ID) - 1).limit(1)).first()
        if record is None:
            found = "There is no record" if number == 1 else f"There are not {number} records"
            raise NotFound(f"{found} yet.", 'Ask something: qa ask "Who am I?"')
        return record

    def thread(self, record_id: int) -> list[QuestionAnswer]:
        """The record and all that it follows up, the oldest first; what was removed ends it.

        Raises:
            NotFound: There is none with that id.
        """
        found = [self.get(record_id)]
        while (earlier := found[-1].follows_id) is not None and len(found) < LONGEST_THREAD:
            with self.session() as session:
                record = session.get(QuestionAnswer, earlier)
            if record is None:
                break
            found.append(record)
        return found[::-1]

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
        query = query.where(*only.conditions(sqlite=self.sqlite))
        query = query.order_by(record_ids.desc() if newest_first else record_ids)
        with self.session() as session:
            return list(session.exec(query))

    def search(self, only: Filter, limit: int) -> list[QuestionAnswer]:
        """The records that fit a search best, the best first; among the newest that fit at all."""
        newest = (
            sa.select(record_ids)
            .where(*only.conditions(sqlite=self.sqlite))
            .order_by(record_ids.desc())
            .limit(RANKED)
        )
        query = select(QuestionAnswer).where(record_ids.in_(newest)).limit(min(limit, MAX_ID))
        fit = rank(only.search or "", sqlite=self.sqlite)
        if fit is not None:
            if self.sqlite:
                wanted = [term for term in terms(only.search or "") if term.is_indexed]
                index = sa.text(
                    "question_answer_search.rowid = question_answer.id "
                    "AND question_answer_search MATCH :fits"
                ).bindparams(fits=match_of(wanted))
                query = query.join(sa.table("question_answer_search"), index)
            query = query.order_by(fit)
        with self.session() as session:
            return list(session.exec(query.order_by(record_ids.desc())))

    def walk(
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

    def documents(self, only: Filter = EVERYTHING) -> Iterator[dict[str, Any]]:
        """Records as JSON has them, from the oldest up: quicker than `walk`, a page in memory."""
        columns = [RECORDS.c[name] for name in FIELDS]
        query = sa.select(*columns).where(*only.conditions(sqlite=self.sqlite))
        last = 0
        while True:
            page = query.where(RECORDS.c.id > last).order_by(RECORDS.c.id).limit(PAGE)
            with self.transaction() as connection:
                rows = connection.execute(page).all()
            for row in rows:
                yield {name: plain(value) for name, value in zip(FIELDS, row, strict=True)}
            if len(rows) < PAGE:
                return
            last = rows[-1].id

    def count(self, only: Filter = EVERYTHING) -> int:
        """How many records there are."""
        query = sa.select(sa.func.count()).select_from(RECORDS)
        with self.transaction() as connection:
            number = connection.scalar(query.where(*only.conditions(sqlite=self.sqlite)))
        return number or 0

    def remove_all(self, only: Filter) -> int:
        """Remove the records that fit, and every trace of them from the file; returns how many."""
        chosen = sa.select(RECORDS.c.id).where(*only.conditions(sqlite=self.sqlite))
        with self.transaction(write=True) as connection:
            removed = connection.execute(sa.delete(RECORDS).where(RECORDS.c.id.in_(chosen)))
        if removed.rowcount:
            self.scrub()
        return removed.rowcount

    def scrub(self) -> None:
        """Leave nothing of what was removed in the file: in the index, the pages or the log.

        PostgreSQL reuses the space by itself; its owner decides about more.
        """
        if not self.sqlite:
            return
        with self.transaction(write=True) as connection:
            optimize = (
                "INSERT INTO question_answer_search(question_answer_search) VALUES ('optimize')"
            )
            connection.exec_driver_sql(optimize)
        self.outside_transaction("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")

    def tag(self, record_id: int, add: Sequence[str], remove: Sequence[str]) -> list[str]:
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
            NotFound: There is none with that id.
        """
        removed = 0
        if 0 < record_id <= MAX_ID:
            query = delete(QuestionAnswer).where(record_ids == record_id)
            with self.session(write=True) as session:
                removed = session.exec(query).rowcount
        if not removed:
            raise NotFound(f"There is no record {record_id}.", "List what there is: qa list")

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """A session in a transaction of its own; what it gives stays usable afterwards."""
        with (
            self.transaction(write=write) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session
            session.commit()
