"""The embeddings of records, and the records whose embeddings are nearest to one.

A vector is kept as one byte a dimension, which changes a cosine by less than 0.01, and as its
signs, one bit a dimension. A search compares the signs of all records, which takes a microsecond
each, and then the vectors of the `CANDIDATES` nearest ones.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from operator import mul

import sqlalchemy as sa

from qacli.db.extra_models import EMBEDDINGS, Embedding
from qacli.db.filters import Filter
from qacli.db.models import ANSWERED, RECORDS
from qacli.db.records import Store

PAGE = 10_000
"""Maximum number of rows of signs in memory."""

CANDIDATES = 1000
VECTORS_PAGE = 500
MAX_SIGNED_BYTE = 127
"""The largest value of a signed byte."""


class Embeddings:
    """The embeddings of one model.

    Args:
        store: The history.
        model_digest: Names the model, its endpoint and the text that it gets of a record.
    """

    def __init__(self, store: Store, model_digest: str) -> None:
        self._store = store
        self._digest = model_digest
        self._own = EMBEDDINGS.c.model_digest == model_digest

    def _missing(self) -> sa.Select[int]:
        of_record = EMBEDDINGS.c.record_id == RECORDS.c.id
        has_one = sa.exists().where(of_record, self._own)
        only = self._store.with_owner(Filter()).conditions(sqlite=self._store.sqlite)
        return sa.select(RECORDS.c.id).where(ANSWERED, ~has_one, *only)

    def count_missing(self) -> int:
        """Return the number of answered records without an embedding."""
        query = sa.select(sa.func.count()).select_from(self._missing().subquery())
        with self._store.reading() as connection:
            return connection.scalar(query) or 0

    def missing(self, size: int) -> Iterator[list[int]]:
        """Yield the ids of answered records without an embedding, `size` at a time."""
        last = 0
        while True:
            query = self._missing().where(RECORDS.c.id > last).order_by(RECORDS.c.id).limit(size)
            with self._store.reading() as connection:
                ids = list(connection.scalars(query))
            if not ids:
                return
            yield ids
            last = ids[-1]

    def add(self, vectors: dict[int, Sequence[float]]) -> None:
        """Store vectors by the ids of their records, except those of deleted records."""
        rows = [
            {
                "record_id": record_id,
                "model_digest": self._digest,
                "signs": signs_of(vector),
                "vector": to_bytes(vector),
            }
            for record_id, vector in vectors.items()
        ]
        with self._store.transaction(write=True) as connection:
            query = sa.select(RECORDS.c.id).where(RECORDS.c.id.in_(vectors))
            existing = set(connection.scalars(query.with_for_update()))
            if rows := [row for row in rows if row["record_id"] in existing]:
                connection.execute(self._store.insert(Embedding).on_conflict_do_nothing(), rows)

    def vector(self, record_id: int) -> bytes | None:
        """Return the vector of a record as bytes, or None."""
        query = sa.select(EMBEDDINGS.c.vector).where(EMBEDDINGS.c.record_id == record_id, self._own)
        with self._store.reading() as connection:
            vector: bytes | None = connection.scalar(query)
        return vector

    def nearest(self, vector: bytes, only: Filter, limit: int) -> dict[int, float]:
        """Return the cosines of the nearest records by their ids, the nearest first.

        Args:
            vector: The vector as bytes.
            only: Only records that this filter selects.
            limit: The number of records at most.
        """
        target = array("b", vector)
        bits = int.from_bytes(signs_of(target))
        differences = (
            ((int.from_bytes(signs) ^ bits).bit_count(), -number)
            for number, signs in self._signs(only)
        )
        candidates = nsmallest(max(CANDIDATES, limit * 4), differences)
        ids = [-number for _, number in candidates]
        scores: dict[int, float] = {}
        for start in range(0, len(ids), VECTORS_PAGE):
            page = EMBEDDINGS.c.record_id.in_(ids[start : start + VECTORS_PAGE])
            query = sa.select(EMBEDDINGS.c.record_id, EMBEDDINGS.c.vector).where(page, self._own)
            with self._store.reading() as connection:
                for row in connection.execute(query):
                    scores[row.record_id] = cosine(target, array("b", row.vector))
        best = sorted(scores, key=lambda number: (-scores[number], -number))[:limit]
        return {number: scores[number] for number in best}

    def _signs(self, only: Filter) -> Iterator[tuple[int, bytes]]:
        """Yield the ids and signs of the records that fit."""
        only = self._store.with_owner(only)
        query = sa.select(EMBEDDINGS.c.record_id, EMBEDDINGS.c.signs).where(self._own)
        if only != Filter():
            query = query.join(RECORDS, RECORDS.c.id == EMBEDDINGS.c.record_id)
            query = query.where(*only.conditions(sqlite=self._store.sqlite))
        last = 0
        while True:
            page = query.where(EMBEDDINGS.c.record_id > last).order_by(EMBEDDINGS.c.record_id)
            with self._store.reading() as connection:
                rows = connection.execute(page.limit(PAGE)).all()
            yield from ((number, signs) for number, signs in rows)
            if len(rows) < PAGE:
                return
            last = rows[-1].record_id


def to_bytes(vector: Sequence[float]) -> bytes:
    """Return the direction of a vector, with one signed byte for each dimension."""
    largest = max(map(abs, vector), default=0.0) or 1.0
    return array("b", (round(value * MAX_SIGNED_BYTE / largest) for value in vector)).tobytes()


def signs_of(vector: Sequence[float]) -> bytes:
    """Return one bit a dimension: 1 where the vector is positive."""
    bits = int("0" + "".join("1" if value > 0 else "0" for value in vector), 2)
    return bits.to_bytes((len(vector) + 7) // 8)


def cosine(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the cosine of the angle between two vectors; 0 if one of them has no length."""
    length = math.sqrt(sum(map(mul, one, one)) * sum(map(mul, other, other)))
    return sum(map(mul, one, other)) / length if length else 0.0
