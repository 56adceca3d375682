"""Threads: the ancestors and the followers of a record, and the number of statements."""

import pytest
import sqlalchemy as sa
from statements import counted

from qacli.db.models import RECORDS
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.errors import InvalidRequest, NotFound
from qacli.services.context import load_context
from qacli.web.ui.thread import MAX_RECORDS
from qacli.web.ui.thread import load_thread as page_of

ANSWERED = Outcome(status=Status.ANSWERED, answer="yes", model="m")


def add(store: Store, follows_id: int | None = None, caller: str | None = None) -> int:
    question = Question(question="Right?", follows_id=follows_id, caller=caller)
    return store.upsert(question, ANSWERED)


def add_thread(store: Store, length: int) -> list[int]:
    """Add a thread in one transaction; returns its ids, the oldest first."""
    row = {"question": "Right?", "answer": "yes", "status": Status.ANSWERED, "params": {}}
    row |= {"tags": [], "attachments": []}
    created_at = Question(question="x").created_at
    rows = [
        {**row, "id": n, "created_at": created_at, "uid": f"{n}", "follows_id": n - 1 or None}
        for n in range(1, length + 1)
    ]
    with store.transaction(write=True) as connection:
        connection.execute(sa.insert(RECORDS), rows)
    return list(range(1, length + 1))


def test_thread_of_200_records_takes_one_connection_and_one_query(store: Store) -> None:
    ids = add_thread(store, 200)
    with counted() as log:
        assert [record.id for record in store.thread(ids[-1])] == ids
    assert len(log) == 2


def test_context_of_a_long_thread_reads_only_the_budget(store: Store) -> None:
    ids = add_thread(store, 200)
    with counted() as log:
        turns, left_out = load_context(store, ids[-1], 30)
    assert (len(turns), left_out) == (10, 190)
    # The ids of the thread, and one page of its records.
    assert log.count("connect") == 2
    assert len(log) == 4


def test_context_of_a_whole_thread_leaves_nothing_out(store: Store) -> None:
    ids = add_thread(store, 45)
    turns, left_out = load_context(store, ids[-1], 10_000)
    assert (len(turns), left_out) == (45, 0)


def test_context_of_a_record_without_an_answer_is_refused(store: Store) -> None:
    failed = store.upsert(Question(question="Why?"), Outcome(status=Status.FAILED))
    with pytest.raises(InvalidRequest, match="no answer that a follow-up can continue"):
        load_context(store, failed, 100)


def test_page_of_a_long_thread_takes_three_queries(store: Store) -> None:
    ids = add_thread(store, 100)
    with counted() as log:
        shown = page_of(store, ids[49])
    assert [record.id for record in shown.records] == ids[50 - MAX_RECORDS : 50 + MAX_RECORDS - 1]
    assert (shown.earlier, shown.removed) == (ids[49 - MAX_RECORDS], None)
    assert [record.id for record in shown.branches] == [ids[49 + MAX_RECORDS]]
    assert len(log) <= 6


def test_page_ends_where_the_thread_branches(store: Store) -> None:
    first = add(store)
    second = add(store, first)
    branches = [add(store, second), add(store, second)]
    shown = page_of(store, first)
    assert [record.id for record in shown.records] == [first, second]
    assert [record.id for record in shown.branches] == branches


def test_thread_with_a_cycle_ends(store: Store) -> None:
    first, second, third = add_thread(store, 3)
    with store.transaction(write=True) as connection:
        circle = sa.update(RECORDS).where(RECORDS.c.id == first).values(follows_id=third)
        connection.execute(circle)
    assert [record.id for record in store.thread(third)] == [first, second, third]
    assert store.thread_ids(second) == [second, first, third]
    shown = page_of(store, third)
    assert [record.id for record in shown.records] == [first, second, third]
    assert (shown.earlier, shown.removed, shown.branches) == (None, None, [])


def test_thread_ends_at_a_record_of_another_caller(store: Store) -> None:
    first = add(store, caller="alice")
    second = add(store, first, caller="bob")
    third = add(store, second, caller="bob")
    assert [record.id for record in store.visible_to("bob").thread(third)] == [second, third]
    assert [record.id for record in store.thread(third)] == [first, second, third]
    assert store.visible_to("alice").followers(first, 9) == []
    with pytest.raises(NotFound):
        store.visible_to("alice").thread(third)


def test_thread_has_at_most_its_limit_of_records(store: Store) -> None:
    ids = add_thread(store, 1100)
    assert [record.id for record in store.thread(ids[-1])] == ids[100:]
    assert [record.id for record in store.thread(ids[-1], 2)] == ids[-2:]


@pytest.mark.parametrize("record_id", [0, -1, 7, 2**70])
def test_thread_of_an_unknown_record_is_not_found(store: Store, record_id: int) -> None:
    with pytest.raises(NotFound):
        store.thread(record_id)
    with pytest.raises(NotFound):
        store.thread_ids(record_id)
