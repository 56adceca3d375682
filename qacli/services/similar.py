"""Find records that are similar to one, by the embeddings of their texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from qacli.db.embeddings import Embeddings, to_bytes
from qacli.db.filters import Filter
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store

MAX_TEXT_CHARACTERS = 6000
"""Characters of question and answer: about 1,500 tokens; most models take at most 2,048."""

TEXTS_AT_ONCE = 64
TEXT_VERSION = 1
"""The version of `text_of`: a change of the text needs new embeddings."""


def embeddings_of(store: Store, endpoint: str, model: str) -> Embeddings:
    """Return the embeddings of a model.

    Args:
        store: The history.
        endpoint: The host; models of the same name on two hosts can differ.
        model: The name of the model.
    """
    key = f"{TEXT_VERSION}\n{endpoint}\n{model}".encode()
    return Embeddings(store, blake2b(key, digest_size=16).hexdigest())


def text_of(record: QuestionAnswer) -> str:
    """Return the text of a record that is embedded: its question, and the start of its answer."""
    return f"{record.question.strip()}\n\n{record.answer or ''}"[:MAX_TEXT_CHARACTERS].strip()


@dataclass(frozen=True, slots=True)
class SimilarRecords:
    """A search for similar records; `embed` returns a vector for each text."""

    store: Store
    embeddings: Embeddings
    embed: Callable[[Sequence[str]], list[list[float]]]

    def embed_missing(self, report: Callable[[int], None]) -> None:
        """Compute the embeddings of all answered records that have none, and store them.

        It can be stopped at any time: the embeddings so far are stored.

        Args:
            report: Called with the number of records so far.
        """
        number = 0
        for ids in self.embeddings.missing(TEXTS_AT_ONCE):
            if records := self.store.get_many(ids):
                vectors = self.embed([text_of(record) for record in records])
                numbers = [record.id or 0 for record in records]
                self.embeddings.add(dict(zip(numbers, vectors, strict=True)))
            number += len(ids)
            report(number)

    def find(
        self, record: QuestionAnswer, only: Filter, limit: int
    ) -> list[tuple[QuestionAnswer, float]]:
        """Return the records that are most similar to a record, with their cosines.

        Args:
            record: The record; it is not among the results.
            only: Only records that this filter selects; records without an embedding are not found.
            limit: The number of records at most.
        """
        number = record.id or 0
        vector = self.embeddings.vector(number) or to_bytes(self.embed([text_of(record)])[0])
        scores = self.embeddings.nearest(vector, only, limit + 1)
        scores.pop(number, None)
        records = self.store.get_many(list(scores)[:limit])
        return [(item, scores[item.id or 0]) for item in records]
