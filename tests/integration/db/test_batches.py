from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from journals import write_outcome, write_question

from qacli.db.batches import Batches, WorkerEvicted
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.errors import InvalidRequest, NotFound
from qacli.recording.outbox import Outbox
from qacli.recording.recovery import recover_outbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qacli.config.settings import Settings

SETTINGS = {"model": "m", "params": {"temperature": 0.5}, "template": None}
ANSWERED = Outcome(
    status=Status.ANSWERED, answer="A", model="m-1", prompt_tokens=3, completion_tokens=4
)
FAILED = Outcome(
    status=Status.FAILED, error_kind="provider-refused", error="The provider answered 400: No."
)
INTERRUPTED = Outcome(status=Status.INTERRUPTED, error_kind="interrupted", error="stopped")


@pytest.fixture
def batches(store: Store) -> Batches:
    return Batches(store)


def load_batch(batches: Batches, items: int, name: str = "n") -> int:
    """Load a batch of so many items, and return its id."""
    pages = [make_items(start, min(start + 1000, items)) for start in range(0, items, 1000)]
    if pages:
        batch = batches.load(name, SETTINGS, pages, {"size": 1})
    else:
        batch = batches.begin(name, SETTINGS)
    assert batch.id is not None
    return batch.id


def make_items(start: int, end: int) -> list[dict[str, Any]]:
    return [
        {"position": n, "key": f"k{n}", "payload": {"question": f"Question {n}"}}
        for n in range(start, end)
    ]


def new_question(batch_id: int, number: int) -> Question:
    return Question(
        question=f"Question {number}",
        params={"model": "m"},
        batch_id=batch_id,
        item_key=f"k{number}",
    )


def store_outcomes(
    batches: Batches, batch_id: int, *numbers: int, outcome: Outcome = ANSWERED
) -> list[Question]:
    """Store the same outcome for items, and return their questions."""
    asks = [new_question(batch_id, number) for number in numbers]
    batches.store.upsert_items(batch_id, [(ask, outcome) for ask in asks])
    return asks


def states(batches: Batches, batch_id: int) -> tuple[int, int, int, int]:
    counts = batches.counts(batch_id)
    return (counts["waiting"], counts["claimed"], counts["answered"], counts["failed"])


def claim(batches: Batches, batch_id: int, worker: str, limit: int) -> list[Any]:
    """Claim items as a worker that registers first."""
    if worker not in {each.uid for each, _ in batches.workers(batch_id)}:
        batches.register_worker(batch_id, worker, "host", f"{worker}.worker")
    return batches.claim(batch_id, worker, limit)


def positions(page: list[Any]) -> list[int]:
    return [item.position for item in page]


def test_begin_same_name_and_settings_returns_the_same_batch(batches: Batches) -> None:
    first = batches.begin("n", SETTINGS)
    assert batches.begin("n", dict(SETTINGS)).id == first.id
    assert batches.begin("other", SETTINGS).id != first.id
    assert [batch.name for batch in batches.all()] == ["n", "other"]
    assert batches.get("n").settings == SETTINGS
    with pytest.raises(NotFound):
        batches.get("none")


def test_begin_in_sixteen_threads_creates_one_batch(batches: Batches) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: batches.begin("n", SETTINGS).id, range(16)))
    assert len(set(found)) == 1
    assert len(batches.all()) == 1


def test_begin_changed_settings_raises_with_the_difference(batches: Batches) -> None:
    batches.begin("n", SETTINGS)
    with pytest.raises(InvalidRequest) as caught:
        batches.begin("n", {**SETTINGS, "model": "m-2", "column": "text"})
    for part in ("'n'", "model", "'m'", "'m-2'", "column", "'text'"):
        assert part in caught.value.what
    assert "temperature" not in caught.value.what
    assert "--name" in caught.value.todo


def test_load_same_items_again_adds_them_once(batches: Batches) -> None:
    batch_id = load_batch(batches, 5)
    store_outcomes(batches, batch_id, 0, 1)
    batches.load("n", SETTINGS, [make_items(0, 5)], {})
    batches.load("n", SETTINGS, [make_items(3, 8)], {})
    assert states(batches, batch_id) == (6, 0, 2, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"payload": {"question": "Another"}},
        {"payload": {"question": "Question 1", "system": "S"}},
        {"key": "other"},
        {"key": "k0"},
    ],
)
def test_load_changed_item_raises_and_stores_nothing(
    batches: Batches, changed: dict[str, Any]
) -> None:
    batch_id = load_batch(batches, 2)
    items = make_items(0, 4)
    items[1] |= changed
    with pytest.raises(InvalidRequest) as caught:
        batches.load("n", SETTINGS, [items], {})
    assert "tem 2" in caught.value.what
    assert states(batches, batch_id) == (2, 0, 0, 0)


@pytest.mark.parametrize("place", [2, 1500])
def test_load_duplicate_key_raises(batches: Batches, place: int) -> None:
    load_batch(batches, 2)
    twice = [{"position": place, "key": "k1", "payload": {"question": "x"}}]
    with pytest.raises(InvalidRequest) as caught:
        batches.load("n", SETTINGS, [twice], {})
    assert "'k1'" in caught.value.what
    assert str(place + 1) in caught.value.what
    # The same key in another batch is another item.
    batches.load("other", SETTINGS, [twice], {})


def test_load_payload_is_read_back_unchanged(batches: Batches) -> None:
    batch_id = load_batch(batches, 0)
    payload = {
        "question": "Grüße, 世界 🌍\r\n\t'\"\\ ",
        "params": {"a": [1, 2.5, None, True, {"ß": 10**18}], "seed": 7, "top_p": 1.0},
        "tags": ["t"],
    }
    items = [{"position": 0, "key": "ß'\"", "payload": payload}]
    batches.load("n", SETTINGS, [items], {})
    batches.load("n", SETTINGS, [items], {})
    [claimed] = claim(batches, batch_id, "w", 5)
    assert (claimed.position, claimed.key, claimed.payload) == (0, "ß'\"", payload)


def test_claim_returns_the_first_waiting_items_once(batches: Batches) -> None:
    batch_id, other = load_batch(batches, 10), load_batch(batches, 10, "other")
    store_outcomes(batches, batch_id, 1)
    assert positions(claim(batches, batch_id, "a", 3)) == [0, 2, 3]
    assert positions(claim(batches, batch_id, "b", 4)) == [4, 5, 6, 7]
    assert positions(claim(batches, batch_id, "a", 9)) == [8, 9]
    assert claim(batches, batch_id, "b", 9) == []
    assert states(batches, batch_id) == (0, 9, 1, 0)
    assert states(batches, other) == (10, 0, 0, 0)


def _claim_all(url: str, batch_id: int, worker: str, start: Any, found: Any) -> None:
    batches = Batches(Store.open(url))
    start.wait(20)
    while claimed := claim(batches, batch_id, worker, 7):
        found.put([item.position for item in claimed])
    found.put(None)


def test_claim_in_several_processes_gives_each_item_once(
    batches: Batches, settings: Settings
) -> None:
    batch_id, workers = load_batch(batches, 400), 3
    context = multiprocessing.get_context("spawn")
    start, found = context.Event(), context.Queue()
    processes = [
        context.Process(
            target=_claim_all, args=(settings.database, batch_id, f"w{n}", start, found)
        )
        for n in range(workers)
    ]
    for process in processes:
        process.start()
    start.set()
    claimed: list[int] = []
    ended = 0
    while ended < workers:
        group = found.get(timeout=60)
        ended += group is None
        claimed += group or []
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
        process.close()
    found.close()
    found.join_thread()
    assert sorted(claimed) == list(range(400))
    assert states(batches, batch_id) == (0, 400, 0, 0)


def test_claim_and_upsert_in_several_threads_miss_no_item(batches: Batches) -> None:
    batch_id, claimed, lock = load_batch(batches, 300), [], threading.Lock()

    def work(worker: str) -> None:
        while items := claim(batches, batch_id, worker, 11):
            store_outcomes(batches, batch_id, *(item.position for item in items))
            with lock:
                claimed.extend(positions(items))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert sorted(claimed) == list(range(300))
    assert states(batches, batch_id) == (0, 0, 300, 0)


def test_upsert_items_again_changes_nothing(batches: Batches) -> None:
    batch_id = load_batch(batches, 3)
    claim(batches, batch_id, "w", 3)
    pairs = [(new_question(batch_id, 0), ANSWERED), (new_question(batch_id, 1), FAILED)]
    batches.store.upsert_items(batch_id, pairs)
    before = [record.to_dict() for record in batches.store.page(limit=1000)]
    for _ in range(2):
        batches.store.upsert_items(batch_id, pairs)
    assert [record.to_dict() for record in batches.store.page(limit=1000)] == before
    assert states(batches, batch_id) == (0, 1, 1, 1)


def test_upsert_items_answer_replaces_a_failure_under_its_id(batches: Batches) -> None:
    batch_id = load_batch(batches, 1)
    store_outcomes(batches, batch_id, 0, outcome=INTERRUPTED)
    [first] = batches.store.page(limit=9)
    assert (first.status, states(batches, batch_id)) == (Status.INTERRUPTED, (1, 0, 0, 0))
    store_outcomes(batches, batch_id, 0, outcome=FAILED)
    assert states(batches, batch_id) == (0, 0, 0, 1)
    [ask] = store_outcomes(batches, batch_id, 0, outcome=ANSWERED)
    [last] = batches.store.page(limit=9)
    assert (last.id, last.uid, last.status) == (first.id, ask.uid, Status.ANSWERED)
    assert (last.answer, last.error) == ("A", None)
    assert states(batches, batch_id) == (0, 0, 1, 0)


@pytest.mark.parametrize("outcome", [FAILED, INTERRUPTED, replace(ANSWERED, answer="B")])
def test_upsert_items_after_an_answer_keeps_the_answer(batches: Batches, outcome: Outcome) -> None:
    batch_id = load_batch(batches, 1)
    [ask] = store_outcomes(batches, batch_id, 0)
    store_outcomes(batches, batch_id, 0, outcome=outcome)
    [record] = batches.store.page(limit=9)
    assert (record.answer, record.uid, record.status) == ("A", ask.uid, Status.ANSWERED)
    assert states(batches, batch_id) == (0, 0, 1, 0)


def test_upsert_items_with_one_item_twice_stores_it_once(batches: Batches) -> None:
    batch_id = load_batch(batches, 1)
    pairs = [(new_question(batch_id, 0), FAILED), (new_question(batch_id, 0), ANSWERED)]
    batches.store.upsert_items(batch_id, pairs)
    [record] = batches.store.page(limit=9)
    assert record.status is Status.ANSWERED
    assert states(batches, batch_id) == (0, 0, 1, 0)


def test_upsert_items_old_outcome_keeps_the_newer_claim(batches: Batches) -> None:
    batch_id = load_batch(batches, 1)
    claim(batches, batch_id, "first", 1)
    old = [(new_question(batch_id, 0), INTERRUPTED)]
    batches.unregister_worker("first")
    claim(batches, batch_id, "second", 1)
    batches.store.upsert_items(batch_id, old)
    assert claim(batches, batch_id, "third", 1) == []


def test_upsert_items_large_group_is_stored(batches: Batches) -> None:
    batch_id = load_batch(batches, 2500)
    store_outcomes(batches, batch_id, *range(2500))
    assert states(batches, batch_id) == (0, 0, 2500, 0)
    assert len(batches.finished_by_key(batch_id, [f"k{n}" for n in range(2500)])) == 2500


def test_recover_outbox_of_a_batch_delivers_once(batches: Batches, tmp_path: Path) -> None:
    batch_id = load_batch(batches, 3)
    claim(batches, batch_id, "w", 3)
    outbox = Outbox(tmp_path / "outbox")
    journal = outbox.open()
    pairs = [(new_question(batch_id, 0), ANSWERED), (new_question(batch_id, 1), FAILED)]
    for ask, outcome in pairs:
        write_question(journal, ask)
        write_outcome(journal, ask.uid, outcome)
    assert recover_outbox(outbox, batches.store) == 0
    journal.close()
    batches.store.upsert_items(batch_id, pairs[:1])
    assert recover_outbox(outbox, batches.store) == 2
    assert recover_outbox(outbox, batches.store) == 0
    assert states(batches, batch_id) == (0, 1, 1, 1)
    assert len(batches.store.page(limit=9)) == 2


def test_unregister_worker_releases_its_unfinished_items(batches: Batches) -> None:
    batch_id = load_batch(batches, 6)
    batches.register_worker(batch_id, "a", "host", "a.jsonl")
    batches.register_worker(batch_id, "b", "host", "b.jsonl")
    claim(batches, batch_id, "a", 3)
    claim(batches, batch_id, "b", 2)
    store_outcomes(batches, batch_id, 0)
    found = batches.workers(batch_id)
    assert [(worker.uid, worker.journal, silent) for worker, silent in found] == [
        ("a", "a.jsonl", False),
        ("b", "b.jsonl", False),
    ]
    assert batches.unregister_worker("a") == 2
    assert states(batches, batch_id) == (3, 2, 1, 0)
    assert [worker.uid for worker, _ in batches.workers(batch_id)] == ["b"]
    assert batches.unregister_worker("a") == 0
    assert positions(claim(batches, batch_id, "b", 9)) == [1, 2, 5]


def test_workers_without_a_new_heartbeat_are_late(batches: Batches) -> None:
    import sqlalchemy as sa

    batch_id = load_batch(batches, 1)
    for worker in ("a", "b"):
        batches.register_worker(batch_id, worker, "elsewhere", f"{worker}.jsonl")
    with batches.store.transaction(write=True) as connection:
        connection.execute(sa.text("UPDATE batch_worker SET seen_at = seen_at - 61"))
    assert batches.heartbeat("b")
    assert not batches.heartbeat("unknown")
    assert [(worker.uid, late) for worker, late in batches.workers(batch_id)] == [
        ("a", True),
        ("b", False),
    ]


def test_evict_expired_lease_releases_claims_and_ends_the_worker(batches: Batches) -> None:
    import sqlalchemy as sa

    batch_id = load_batch(batches, 4)
    claim(batches, batch_id, "slept", 3)
    with batches.store.transaction(write=True) as connection:
        connection.execute(sa.text("UPDATE batch_worker SET seen_at = seen_at - 61"))
    [(found, late)] = batches.workers(batch_id)
    assert late
    assert batches.evict(found) == 3
    assert batches.evict(found) == 0
    assert not batches.heartbeat("slept")
    with pytest.raises(WorkerEvicted):
        batches.claim(batch_id, "slept", 1)
    claim(batches, batch_id, "other", 2)
    # Of its three items, only one still waits.
    batches.register_worker(batch_id, "slept", "host", "slept.worker")
    assert batches.claim_again(batch_id, "slept", [0, 1, 2]) == {2}
    assert batches.heartbeat("slept")
    assert positions(batches.claim(batch_id, "slept", 9)) == [3]


def test_evict_worker_that_renewed_since_keeps_its_claims(batches: Batches) -> None:
    batch_id = load_batch(batches, 2)
    claim(batches, batch_id, "a", 2)
    [(found, _)] = batches.workers(batch_id)
    assert batches.heartbeat("a")
    assert batches.evict(found) == 0
    assert states(batches, batch_id) == (0, 2, 0, 0)


def test_resume_with_retry_failed_makes_failed_items_wait(batches: Batches) -> None:
    batch_id = load_batch(batches, 4)
    store_outcomes(batches, batch_id, 0)
    store_outcomes(batches, batch_id, 1, 2, outcome=FAILED)
    batches.resume(batch_id, retry_failed=False)
    assert states(batches, batch_id) == (1, 0, 1, 2)
    batches.resume(batch_id, retry_failed=True)
    assert states(batches, batch_id) == (3, 0, 1, 0)


def test_cancel_holds_until_resume(batches: Batches) -> None:
    batch_id, other = load_batch(batches, 1), load_batch(batches, 1, "other")
    batches.cancel(batch_id)
    assert (batches.is_cancelled(batch_id), batches.is_cancelled(other)) == (True, False)
    batches.resume(batch_id, retry_failed=False)
    assert not batches.is_cancelled(batch_id)


def test_finished_returns_items_up_to_the_first_unfinished(batches: Batches) -> None:
    batch_id = load_batch(batches, 12)
    store_outcomes(batches, batch_id, *range(4), 5, 6, 9)
    store_outcomes(batches, batch_id, 4, outcome=FAILED)
    assert positions(batches.finished(batch_id, 0, 3)) == [0, 1, 2]
    assert positions(batches.finished(batch_id, 3, 100)) == [3, 4, 5, 6]
    assert batches.finished(batch_id, 7, 100) == []
    assert positions(batches.finished(batch_id, 9, 100)) == [9]
    assert positions(batches.finished_by_key(batch_id, ["k9", "k8", "k4"])) == [4, 9]
    store_outcomes(batches, batch_id, 7, outcome=INTERRUPTED)
    assert batches.finished(batch_id, 7, 100) == []
    [item] = batches.finished(batch_id, 4, 1)
    assert (item.key, item.record["item_key"], item.record["status"]) == ("k4", "k4", "failed")


def test_finished_with_gaps_returns_all_items_in_order(batches: Batches) -> None:
    batch_id = load_batch(batches, 3300)
    there = [n for n in range(3300) if n not in {0, 1, 1700} and not 2000 <= n < 3200]
    for start in range(0, len(there), 1000):
        store_outcomes(batches, batch_id, *there[start : start + 1000])

    def pages() -> Iterator[int]:
        for page in batches.all_finished(batch_id):
            assert len(page) <= 1000
            yield from positions(page)

    assert list(pages()) == there


def test_finished_with_a_removed_record_returns_the_rest(batches: Batches) -> None:
    batch_id = load_batch(batches, 5)
    store_outcomes(batches, batch_id, *range(5))
    removed = next(record for record in batches.store.page(limit=1000) if record.item_key == "k2")
    assert removed.id is not None
    batches.store.remove(removed.id)
    found = [item.position for page in batches.all_finished(batch_id) for item in page]
    assert found == [0, 1, 3, 4]


def test_summary_counts_states_errors_tokens_and_cost(batches: Batches) -> None:
    batch_id = load_batch(batches, 6)
    empty = batches.summary(batch_id)
    assert (empty.records, empty.cost_usd, empty.first, empty.errors) == (0, None, None, {})
    store_outcomes(batches, batch_id, 0, 1, outcome=replace(ANSWERED, cost_usd=0.25))
    store_outcomes(batches, batch_id, 2)
    store_outcomes(batches, batch_id, 3, outcome=FAILED)
    late = replace(
        FAILED, error_kind="provider-timeout", error="The provider did not answer: within 5 s."
    )
    store_outcomes(batches, batch_id, 4, outcome=late)
    store_outcomes(batches, load_batch(batches, 1, "other"), 0)
    found = batches.summary(batch_id)
    assert found.states == {"waiting": 1, "claimed": 0, "answered": 3, "failed": 2}
    assert found.errors == {"provider-refused": 1, "provider-timeout": 1}
    assert (found.records, found.prompt_tokens, found.completion_tokens) == (5, 9, 12)
    assert found.cost_usd == pytest.approx(0.5)
    assert found.first is not None
    assert found.first.utcoffset() is not None
