"""The records: everything that is asked of `question_answer`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, delete, select

from qacli.errors import DatabaseError, NotFound
from qacli.exchange import FIELDS, MAX_ID, Ask, ItemState, Outcome, Status, fields_of, values_of
from qacli.models import BatchItem, QuestionAnswer
from qacli.store.database import Database
from qacli.store.filters import RANKED, Filter, match_of, rank, terms

ITEM_STATES = {
    Status.ANSWERED: ItemState.ANSWERED,
    Status.FAILED: ItemState.FAILED,
    # It is asked again when the batch goes on.
    Status.INTERRUPTED: ItemState.WAITING,
    Status.ASKING: ItemState.WAITING,
}

EVERYTHING = Filter()
record_ids = col(QuestionAnswer.id)
PAGE = 1000
LONGEST_THREAD = 1000


class Store(Database):
    """The records of one database."""

    def insert(self, table: type[SQLModel]) -> postgresql.Insert:
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
        ours = sa.and_(col(QuestionAnswer.uid) == ask.uid)
        unfinished = sa.and_(ours, col(QuestionAnswer.status) == Status.ASKING)
        statements: tuple[sa.Executable, ...] = (
            # First the update: an insert that conflicts would use up an id.
            sa.update(QuestionAnswer)
            .where(unfinished)
            .values(outcome_values)
            .returning(record_ids),
            self.insert(QuestionAnswer)
            .values(values_of(ask, outcome))
            .on_conflict_do_nothing(index_elements=["uid"])
            .returning(record_ids),
            sa.select(record_ids).where(ours),
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
        insert = self.insert(QuestionAnswer)
        columns = [name for name in FIELDS if name not in {"id", "batch_id", "item_key"}]
        upsert = insert.on_conflict_do_update(
            index_elements=["batch_id", "item_key"],
            set_={name: insert.excluded[name] for name in columns},
            where=col(QuestionAnswer.status) != Status.ANSWERED,
        )
        keys: dict[ItemState, list[str | None]] = {}
        for ask, outcome in settled:
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
