"""Read records: one, a page, a thread, or the matches of a search."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any, Self, Unpack

import sqlalchemy as sa
from sqlmodel import Session, col, select

from qacli.db.engine import Database
from qacli.db.export import RAW, IdRange, pages, row_to_dict, rows_to_json_lines
from qacli.db.filters import Filter
from qacli.db.models import ANSWERED, NEWEST_FIRST, RECORDS, QuestionAnswer
from qacli.db.search import (
    COMMON_MATCHES,
    MAX_RANKED,
    SearchTerm,
    fts5_query,
    parse_terms,
    rank,
    sqlite_matches,
)
from qacli.db.search_steps import id_order, rows_in_steps, search_steps
from qacli.db.shared_values import load_records
from qacli.db.threads import MAX_THREAD, ancestors, descendants
from qacli.domain import Question
from qacli.errors import NotFound
from qacli.validation import MAX_ID, sanitize_text

EVERYTHING = Filter()
RECORD_ID = col(QuestionAnswer.id)
MAX_COMPARED = 1000
"""The number of newest records that `find_by_text` compares: no index has whole texts."""

MAX_CONTEXTS = 100
"""The number of earlier requests of a conversation that `find_contexts` looks for and returns."""

MAX_SAME_TEXT = 5
"""The number of records that `find_by_text` returns at most."""

# Built once, because building the query takes as long as running it.
ONE_RECORD = RAW.where(RECORDS.c.id == sa.bindparam("record_id"))


class RecordQueries(Database):
    """Queries of the records of one database, or of those of one caller.

    Attributes:
        owner: The caller whose records are returned; None returns the records of all callers.
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

    def with_owner(self, only: Filter) -> Filter:
        """Return the filter restricted to the owner's records."""
        return only if self.owner is None else replace(only, owner=self.owner)

    def _owned(self) -> tuple[sa.ColumnElement[bool], ...]:
        """Return the condition for the owner's records, for queries that use no filter."""
        return () if self.owner is None else (RECORDS.c.caller == self.owner,)

    def get(self, record_id: int) -> QuestionAnswer:
        """Return one record.

        Raises:
            NotFound: The record does not exist, or belongs to another caller.
        """
        require_id(record_id)
        record = self._one(RECORDS.c.id == record_id)
        if record is None:
            raise record_not_found(record_id)
        return record

    def get_dict(self, record_id: int) -> dict[str, Any]:
        """Return one record as JSON has it; faster than `get`.

        Raises:
            NotFound: The record does not exist, or belongs to another caller.
        """
        with self.reading() as connection:
            return self._dict_in(connection, record_id)

    def _dict_in(self, connection: sa.Connection, record_id: int) -> dict[str, Any]:
        parameters = {"record_id": require_id(record_id)}
        row = connection.execute(ONE_RECORD, parameters).one_or_none()
        if row is None or self.owner not in {None, row.caller}:
            raise record_not_found(record_id)
        return row_to_dict(row)

    def get_many(self, ids: Sequence[int]) -> list[QuestionAnswer]:
        """Return the records with these ids, in this order, without those that do not exist."""
        with self.session() as session:
            query = select(QuestionAnswer).where(RECORD_ID.in_(ids), *self._owned())
            records = {record.id: record for record in load_records(session, query)}
        return [records[number] for number in ids if number in records]

    def by_uid(self, uid: str) -> QuestionAnswer | None:
        """Return the record of the question with this uid, or None."""
        return self._one(col(QuestionAnswer.uid) == uid)

    def by_idempotency_key(self, idempotency_key: str, caller: str | None) -> QuestionAnswer | None:
        """Return the record that this caller asked with the key, or None.

        Args:
            idempotency_key: The key; each caller has its own ones.
            caller: The caller; None has the keys of records without a caller.
        """
        # `== None` becomes IS NULL, which the index of such records needs.
        of_caller = col(QuestionAnswer.caller) == caller
        return self._one(sa.and_(of_caller, col(QuestionAnswer.idempotency_key) == idempotency_key))

    def by_response_id(self, response_id: str, caller: str | None) -> QuestionAnswer | None:
        """Return the record of a response of the Responses API, or None.

        Args:
            response_id: `resp_` and the uid of its question, or the id that the provider gave.
            caller: The caller that asked; None finds the records without one.
        """
        of_caller = RECORDS.c.caller == caller
        query = select(QuestionAnswer).where(of_caller, *self._owned())
        with self.session() as session:
            for condition in _of_response(response_id):
                one = query.where(*condition).order_by(RECORD_ID.desc()).limit(1)
                if records := load_records(session, one):
                    return records[0]
        return None

    def is_response_of_other(self, response_id: str, caller: str | None) -> bool:
        """Return whether a response is in the history, and not this caller's."""
        of_other = RECORDS.c.caller.is_distinct_from(caller)
        with self.reading() as connection:
            return any(
                connection.scalar(sa.select(RECORDS.c.id).where(of_other, *condition).limit(1))
                for condition in _of_response(response_id)
            )

    def _one(self, condition: sa.ColumnElement[bool]) -> QuestionAnswer | None:
        with self.session() as session:
            query = select(QuestionAnswer).where(condition, *self._owned())
            return next(iter(load_records(session, query)), None)

    def id_for_uid(self, uid: str) -> int | None:
        """Return the id of the record with this uid, or None."""
        query = sa.select(RECORDS.c.id).where(RECORDS.c.uid == uid, *self._owned())
        with self.transaction() as connection:
            record_id: int | None = connection.execute(query).scalar_one_or_none()
        return record_id

    def find_cached(self, question: Question) -> QuestionAnswer | None:
        """Return the newest answered record of the same question, or None.

        The same is all that shapes the answer: the text, the requested model, the system prompt,
        the params, the attachments and the record that the question follows up.
        """
        query = (
            select(QuestionAnswer)
            .where(col(QuestionAnswer.fingerprint) == question.cache_key, ANSWERED, *self._owned())
            .order_by(RECORD_ID.desc())
            .limit(1)
        )
        with self.session() as session:
            record = next(iter(load_records(session, query)), None)
        # Two different questions can have the same fingerprint.
        if record is None or record.canonical_json() != question.canonical_json():
            return None
        return record

    def find_by_text(self, question: str, answer: str) -> list[int]:
        """Return the ids of records with exactly this question and answer, the newest first.

        Only the newest `MAX_COMPARED` records are searched.
        """
        columns = (RECORDS.c.id, RECORDS.c.question, RECORDS.c.answer)
        owned = sa.select(*columns).where(*self._owned())
        newest = owned.order_by(RECORDS.c.id.desc()).limit(MAX_COMPARED).subquery()
        query = (
            sa.select(newest.c.id)
            .where(newest.c.question == question, newest.c.answer == answer)
            .order_by(newest.c.id.desc())
            .limit(MAX_SAME_TEXT)
        )
        with self.transaction() as connection:
            return list(connection.scalars(query))

    def find_contexts(
        self, digests: Sequence[str], caller: str | None
    ) -> list[tuple[int, str, str]]:
        """Return id, digest and answer of the answered records of these requests, newest first.

        Args:
            digests: Values of `context_digest`, the most important first.
            caller: The caller that asked; None finds the records without one.
        """
        query = (
            sa.select(RECORDS.c.id, RECORDS.c.context_digest, RECORDS.c.answer)
            .where(
                RECORDS.c.context_digest.in_(digests[:MAX_CONTEXTS]),
                RECORDS.c.caller == caller,
                ANSWERED,
                *self._owned(),
            )
            .order_by(RECORDS.c.id.desc())
            .limit(MAX_CONTEXTS)
        )
        with self.reading() as connection:
            return [
                (row.id, row.context_digest, row.answer or "") for row in connection.execute(query)
            ]

    def newest(self, number: int = 1) -> QuestionAnswer:
        """Return the n-th newest record by the time of its question; 1 is the newest.

        Raises:
            NotFound: There are fewer records.
        """
        query = select(QuestionAnswer).where(*self._owned()).order_by(*NEWEST_FIRST).limit(1)
        with self.session() as session:
            records = load_records(session, query.offset(min(number, MAX_ID) - 1))
        if not records:
            number_of = "is no record" if number == 1 else f"are not {number} records"
            raise NotFound(f"There {number_of} yet.", 'Ask something: qa ask "Who am I?"')
        return records[0]

    def thread(self, record_id: int, limit: int = MAX_THREAD) -> list[QuestionAnswer]:
        """Return a record and the earlier records of its thread, the oldest first, in one query.

        See `qacli.db.threads.ancestors` for the end of a thread.

        Args:
            record_id: The record.
            limit: The number of records at most: the newest ones.

        Raises:
            NotFound: There is no such record of this caller.
        """
        chain = ancestors(require_id(record_id), self.owner, limit)
        query = select(QuestionAnswer).join(chain, chain.c.id == RECORD_ID)
        with self.session() as session:
            records = load_records(session, query.order_by(chain.c.depth.desc()))
        if not records:
            raise record_not_found(record_id)
        return records

    def thread_ids(self, record_id: int, limit: int = MAX_THREAD) -> list[int]:
        """Return the ids of a record and of those that it follows up, the newest first.

        Raises:
            NotFound: The record does not exist, or belongs to another caller.
        """
        chain = ancestors(require_id(record_id), self.owner, limit)
        with self.reading() as connection:
            ids = list(connection.scalars(sa.select(chain.c.id).order_by(chain.c.depth)))
        if not ids:
            raise record_not_found(record_id)
        return ids

    def followers(self, record_id: int, limit: int) -> list[QuestionAnswer]:
        """Return at most `limit` records below a record, the oldest first, up to a branch."""
        chain = descendants(record_id, self.owner, limit)
        query = select(QuestionAnswer).join(chain, chain.c.id == RECORD_ID)
        with self.session() as session:
            below = query.where(record_id != RECORD_ID).order_by(chain.c.depth)
            return load_records(session, below)

    def page(
        self,
        *,
        limit: int,
        after: int | None = None,
        before: int | None = None,
        newest_first: bool = False,
        only: Filter = EVERYTHING,
    ) -> list[QuestionAnswer]:
        """Return records in the order of their ids.

        Keyset pagination: the last page is as fast as the first.

        Args:
            limit: The number of records at most.
            after: Only ids above this one.
            before: Only ids below this one.
            newest_first: Sort from the newest to the oldest.
            only: The filter.
        """
        limit, records = min(limit, MAX_ID), list[QuestionAnswer]()
        only = self.with_owner(only)
        with self.session() as session:
            connection = session.connection()
            order = id_order(connection, only, newest_first=newest_first)
            query = select(QuestionAnswer).order_by(order)
            id_range = {"after": after, "before": before}
            for conditions in search_steps(connection, only, newest_first=newest_first, **id_range):
                step = query.where(*conditions).limit(limit - len(records))
                records += load_records(session, step)
                if len(records) >= limit:
                    break
        return records

    def search(self, only: Filter, limit: int) -> list[QuestionAnswer]:
        """Return the best matches of a search, the best first.

        Only the newest `MAX_RANKED` matches are ranked.
        """
        only = self.with_owner(only)
        terms = [term for term in parse_terms(only.search or "") if term.is_indexed]
        with self.session() as session:
            newest: Any = sqlite_matches(terms, newest=MAX_RANKED)
            if not (self.sqlite and only.in_index):
                ids = sa.select(RECORDS.c.id)
                connection = session.connection()
                rows = rows_in_steps(connection, ids, only, MAX_RANKED, newest_first=True)
                newest = [row.id for row in rows]
            query = select(QuestionAnswer).where(RECORD_ID.in_(newest)).limit(min(limit, MAX_ID))
            if (score := rank(only.search or "", sqlite=self.sqlite)) is not None:
                if not self.sqlite:
                    query = query.order_by(score)
                elif not _is_common(session, terms):
                    index = sa.text(
                        "question_answer_search.rowid = question_answer.id "
                        "AND question_answer_search MATCH :match"
                    ).bindparams(match=fts5_query(terms))
                    query = query.join(sa.table("question_answer_search"), index).order_by(score)
            return load_records(session, query.order_by(RECORD_ID.desc()))

    def dicts(
        self, only: Filter = EVERYTHING, **id_range: Unpack[IdRange]
    ) -> Iterator[dict[str, Any]]:
        """Yield records as JSON has them, with one page of records in memory."""
        for rows in pages(self, self.with_owner(only), **id_range):
            yield from map(row_to_dict, rows)

    def json_lines(self, only: Filter = EVERYTHING, **id_range: Unpack[IdRange]) -> Iterator[str]:
        """Yield records as lines of JSON without line ends; faster than `dicts`."""
        for rows in pages(self, self.with_owner(only), **id_range):
            yield from rows_to_json_lines(rows)

    def count(self, only: Filter = EVERYTHING) -> int:
        """Return the number of records."""
        conditions = self.with_owner(only).conditions(sqlite=self.sqlite)
        query = sa.select(sa.func.count()).select_from(RECORDS).where(*conditions)
        with self.transaction() as connection:
            return connection.scalar(query) or 0

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """Open a session in a transaction of its own; its records can be used afterwards."""
        with (
            self.transaction(write=write) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session
            session.commit()


def _of_response(response_id: str) -> tuple[tuple[sa.ColumnElement[bool], ...], ...]:
    """Return the conditions for the record of a response, to be tried in this order."""
    response_id = sanitize_text(response_id)
    # `context_digest IS NOT NULL` is the condition of the index.
    of_provider = (
        RECORDS.c.provider_response_id == response_id,
        RECORDS.c.context_digest.is_not(None),
    )
    return (RECORDS.c.uid == response_id.removeprefix("resp_"),), of_provider


def require_id(record_id: int) -> int:
    """Return an id that a record can have.

    Raises:
        NotFound: The number is out of range.
    """
    if not 0 < record_id <= MAX_ID:
        raise record_not_found(record_id)
    return record_id


class RecordNotFound(NotFound):
    """There are no records with some ids."""


def record_not_found(*ids: int) -> RecordNotFound:
    """Return the error for ids of records that do not exist."""
    return RecordNotFound(
        f"There is no record {', '.join(map(str, ids))}.", "List the records: qa list"
    )


def _is_common(session: Session, terms: list[SearchTerm]) -> bool:
    """Return whether the terms have more matches than SQLite can rank quickly."""
    matches = sqlite_matches(terms, newest=COMMON_MATCHES + 1).columns(sa.column("rowid"))
    number = session.scalar(sa.select(sa.func.count()).select_from(matches.subquery()))
    return (number or 0) > COMMON_MATCHES
