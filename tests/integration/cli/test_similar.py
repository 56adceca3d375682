"""`qa list --similar`: near-duplicates and related records."""

import json
import random
from typing import Any

import pytest
from conftest import Invoke
from fake_provider import FakeProvider

from qacli.db.embeddings import Embeddings, cosine, signs_of, to_bytes
from qacli.db.filters import Filter
from qacli.db.purge import delete_matching
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status, now
from qacli.errors import BrokenAnswer
from qacli.provider.embeddings import parse_embeddings

QUESTIONS = (
    "How do I sort a list in Python",
    "What is the capital of France",
    "How do I sort a long list in Python",
    "How do I reverse a list in Python",
    "Which wine goes with fish",
)


@pytest.fixture
def records(store: Store, invoke: Invoke) -> list[int]:
    invoke.env["QA_EMBEDDING_MODEL"] = "words"
    ids = []
    for number, question in enumerate(QUESTIONS):
        asked = Question(question=question, tags=["even"] if number % 2 == 0 else [])
        outcome = Outcome(status=Status.ANSWERED, answer="Yes.", answered_at=now())
        ids.append(store.upsert(asked, outcome))
    return ids


def requests(provider: FakeProvider) -> list[int]:
    """Return the number of texts in each request for embeddings."""
    return [
        len(request.body["input"])
        for request in provider.requests
        if request.path.endswith("/embeddings")
    ]


def similar(invoke: Invoke, *arguments: str) -> list[dict[str, Any]]:
    done = invoke("list", "--similar", *arguments, "--json")
    assert done.code == 0, done.err
    documents: list[dict[str, Any]] = json.loads(done.out)
    return documents


def test_list_similar_has_the_nearest_first_with_their_scores(
    invoke: Invoke, records: list[int]
) -> None:
    found = similar(invoke, str(records[0]), "-n", "3")
    assert [document["question"] for document in found[:2]] == [QUESTIONS[2], QUESTIONS[3]]
    scores = [document["score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9 > scores[-1]
    table = invoke("list", "--similar", str(records[0]), "--limit", "1").out
    assert QUESTIONS[2] in table
    assert len(table.splitlines()) == 1


def test_list_similar_computes_each_embedding_once(
    invoke: Invoke, records: list[int], provider: FakeProvider, store: Store
) -> None:
    similar(invoke, str(records[0]))
    similar(invoke, "last")
    assert requests(provider) == [5]
    store.upsert(Question(question="new"), Outcome(status=Status.ANSWERED, answer="x"))
    similar(invoke, str(records[0]))
    assert requests(provider) == [5, 1]


def test_list_similar_with_filters_has_only_records_that_fit(
    invoke: Invoke, records: list[int]
) -> None:
    found = similar(invoke, str(records[1]), "--tag", "even", "--limit", "0")
    assert {document["id"] for document in found} == {records[0], records[2], records[4]}


def test_list_similar_to_a_failed_record_stores_nothing_of_it(
    invoke: Invoke, records: list[int], store: Store, provider: FakeProvider
) -> None:
    failed = store.upsert(Question(question=QUESTIONS[1]), Outcome(status=Status.FAILED))
    assert similar(invoke, str(failed))[0]["id"] == records[1]
    assert failed not in {document["id"] for document in similar(invoke, str(records[1]))}
    assert requests(provider) == [5, 1]


def test_list_similar_of_another_model_has_its_own_embeddings(
    invoke: Invoke, records: list[int], provider: FakeProvider
) -> None:
    similar(invoke, str(records[0]))
    invoke.env["QA_EMBEDDING_MODEL"] = "other"
    assert len(similar(invoke, str(records[0]))) == 4
    assert requests(provider) == [5, 5]


def test_list_similar_that_cannot_be_computed_is_an_error(
    invoke: Invoke, records: list[int]
) -> None:
    assert invoke("list", "--similar", "99").code == 4
    assert invoke("list", "--similar", "x").code == 2
    assert invoke("list", "--similar", str(records[0]), "--watch").code == 2
    done = invoke("list", "--similar", str(records[0]), QA_EMBEDDING_MODEL="")
    assert done.code == 3
    assert "qa config set embedding_model" in done.err
    done = invoke("list", "--similar", str(records[0]), OPENAI_API_KEY="wrong")
    assert done.code == 3


def test_remove_deletes_embeddings(store: Store, records: list[int]) -> None:
    embeddings = Embeddings(store, "m")
    embeddings.add({number: [1.0, -1.0, float(number)] for number in [*records, 99]})
    assert embeddings.vector(99) is None
    store.remove(records[0])
    delete_matching(store, Filter(tag="even"))
    remaining = [number for number in records if embeddings.vector(number) is not None]
    assert remaining == [records[1], records[3]]


def test_nearest_of_many_records_is_that_of_all_cosines(store: Store) -> None:
    chance = random.Random(1)
    vectors = {}
    for _ in range(300):
        number = store.upsert(Question(question="q"), Outcome(status=Status.ANSWERED, answer="a"))
        vectors[number] = [chance.gauss(0, 1) for _ in range(64)]
    embeddings = Embeddings(store, "m")
    embeddings.add(vectors)
    target = vectors[1]
    exact = sorted(vectors, key=lambda number: -cosine(target, vectors[number]))  # type: ignore[arg-type]
    found = embeddings.nearest(to_bytes(target), Filter(), 5)
    assert list(found) == exact[:5]
    assert found[1] == pytest.approx(1)
    assert found[exact[1]] == pytest.approx(cosine(target, vectors[exact[1]]), abs=0.01)  # type: ignore[arg-type]


def test_vectors_as_bytes_have_signs_and_no_length() -> None:
    assert list(to_bytes([0.5, -1.0, 0.0])) == [64, 129, 0]
    assert signs_of([0.5, -1.0, 0.1]) == b"\x05"
    assert to_bytes([0.0]) == b"\0"
    assert cosine([0], [1]) == 0


@pytest.mark.parametrize(
    "body",
    [{}, {"data": []}, {"data": [{"index": 0, "embedding": [1]}]}, [], {"data": [{"index": 0}]}],
)
def test_parse_embeddings_without_one_for_each_text_is_broken(body: object) -> None:
    with pytest.raises(BrokenAnswer):
        parse_embeddings(body, 2)
    two = [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1.5]}]
    assert parse_embeddings({"data": two}, 2) == [[1.5], [2.0]]
