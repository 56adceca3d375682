from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qacli.db.batches import Batches, BudgetReached, ClaimedItem
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from qacli.db.records import Store

PAID = Outcome(status=Status.ANSWERED, answer="A", cost_usd=0.25)


@pytest.fixture
def batches(store: Store) -> Batches:
    return Batches(store)


def begin(batches: Batches, items: int, budget: float | None, name: str = "n") -> int:
    rows = [{"position": n, "key": f"k{n}", "payload": {"question": f"{n}"}} for n in range(items)]
    batch_id = batches.load(name, {}, [rows], {}).id or 0
    batches.save_run_options(batch_id, {"endpoint": "e"}, budget)
    for worker in ("a", "b"):
        batches.register_worker(batch_id, worker, "host", f"{worker}.worker")
    return batch_id


def claim(batches: Batches, batch_id: int, worker: str, limit: int, cost: float) -> list[int]:
    return [item.position for item in batches.claim(batch_id, worker, limit, lambda _item: cost)]


def ask(batch_id: int, number: int) -> Question:
    return Question(question=f"{number}", batch_id=batch_id, item_key=f"k{number}")


def spent(batches: Batches, name: str = "n") -> float:
    return batches.get(name).spent_usd


def test_claim_within_a_budget_reserves_for_all_workers(batches: Batches) -> None:
    batch_id = begin(batches, 9, 1.0)
    assert claim(batches, batch_id, "a", 2, 0.3) == [0, 1]
    # The budget allows only one more of the four items.
    assert claim(batches, batch_id, "b", 4, 0.3) == [2]
    assert batches.reserved(batch_id) == pytest.approx(0.9)
    with pytest.raises(BudgetReached) as error:
        claim(batches, batch_id, "a", 1, 0.3)
    assert error.value.max_cost == 1.0
    assert claim(batches, batch_id, "a", 1, 0.05) == [3]


def test_claim_without_a_budget_reserves_nothing(batches: Batches) -> None:
    batch_id = begin(batches, 2, None)
    assert claim(batches, batch_id, "a", 9, 1e9) == [0, 1]
    assert batches.reserved(batch_id) == 0


def test_claim_after_a_cheaper_record_gets_the_difference(batches: Batches) -> None:
    batch_id = begin(batches, 9, 1.0)
    claim(batches, batch_id, "a", 2, 0.5)
    batches.store.upsert_items(batch_id, [(ask(batch_id, 0), PAID)])
    assert spent(batches) == 0.25
    assert claim(batches, batch_id, "a", 1, 0.25) == [2]
    with pytest.raises(BudgetReached):
        claim(batches, batch_id, "a", 1, 0.25)


def test_claim_of_many_workers_at_once_reserves_no_more_than_the_budget(batches: Batches) -> None:
    batch_id = begin(batches, 100, 1.0)

    def run(worker: str) -> int:
        count = 0
        try:
            while True:
                count += len(claim(batches, batch_id, worker, 3, 0.0399))
        except BudgetReached:
            return count

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(run, ("a", "b")))
    assert sum(counts) == 25


def test_claims_of_an_ended_worker_are_no_longer_reserved(batches: Batches) -> None:
    batch_id = begin(batches, 4, 1.0)
    claim(batches, batch_id, "a", 4, 0.25)
    assert batches.unregister_worker("a") == 4
    assert batches.reserved(batch_id) == 0
    assert len(claim(batches, batch_id, "b", 4, 0.25)) == 4


def test_reserve_more_than_the_budget_is_refused_until_others_are_released(
    batches: Batches,
) -> None:
    batch_id = begin(batches, 4, 1.0)
    claim(batches, batch_id, "a", 4, 0.25)
    assert not batches.reserve(batch_id, 0, 0.5)
    assert batches.reserve(batch_id, 0, 0.5, release=[2, 3])
    assert batches.reserved(batch_id) == pytest.approx(0.75)
    assert batches.counts(batch_id)["waiting"] == 2


def test_spent_counts_each_paid_record_once(batches: Batches) -> None:
    batch_id = begin(batches, 3, None)
    question = ask(batch_id, 0)
    failed = Outcome(status=Status.FAILED, cost_usd=0.5, error="No.", error_kind="unexpected")
    for _ in range(2):
        batches.store.upsert_items(batch_id, [(question, failed)])
    assert spent(batches) == 0.5
    # Asked again: both attempts were paid, though there is one record.
    again = ask(batch_id, 0)
    for _ in range(2):
        batches.store.upsert_items(batch_id, [(again, PAID), (ask(batch_id, 1), Outcome())])
    assert spent(batches) == 0.75
    assert batches.summary(batch_id).cost_usd == 0.25
    unpriced = replace(PAID, cost_usd=None)
    batches.store.upsert_items(batch_id, [(ask(batch_id, 2), unpriced)])
    assert spent(batches) == 0.75


def test_next_open_returns_the_oldest_unfinished_batch(batches: Batches) -> None:
    first, second = begin(batches, 1, None), None
    rows = [{"position": 0, "key": "k0", "payload": {"question": "Q"}}]
    second = batches.load("second", {}, [rows], {}).id or 0
    found = batches.next_open()
    assert found is not None
    assert found.id == first
    found = batches.next_open(besides=[first])
    assert found is not None
    assert found.id == second
    assert batches.next_open(besides=[first, second]) is None
    batches.store.upsert_items(first, [(ask(first, 0), PAID)])
    batches.cancel(second)
    assert batches.next_open() is None
    assert batches.next_open(name="n") is None


def test_claimed_item_has_its_reservation(batches: Batches) -> None:
    batch_id = begin(batches, 1, 1.0)
    [item] = batches.claim(batch_id, "a", 1, lambda item: 0.1 * (item.position + 1))
    assert item == ClaimedItem(0, "k0", {"question": "0"}, 0.1)
