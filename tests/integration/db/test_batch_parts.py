from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from qacli.batch_states import PartState
from qacli.db.batch_parts import BatchParts, PartTaken
from qacli.db.batches import Batches
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from qacli.db.extra_models import BatchPart
    from qacli.db.models import Batch
    from qacli.db.records import Store


@pytest.fixture
def batch(store: Store) -> Batch:
    """A batch of ten items."""
    items = [{"position": n, "key": f"k{n}", "payload": {"question": f"Q{n}"}} for n in range(10)]
    return Batches(store).load("n", {}, [items], {})


@pytest.fixture
def parts(store: Store) -> BatchParts:
    return BatchParts(store)


def make(parts: BatchParts, batch: Batch, *, limit: int = 10) -> BatchPart:
    """Make a part of the first waiting items."""
    part = parts.create(
        batch.id or 0,
        owner="me",
        model="m",
        path="/v1/chat/completions",
        endpoint="http://x",
        completion_window="24h",
        round=0,
    )
    items = parts.waiting(batch.id or 0, -1, limit)
    assert parts.add_items(part, items, lambda _item: 0.0) == len(items)
    return parts.change(parts.get(part.id or 0), state=PartState.READY)


def result(batch: Batch, key: str, answer: str = "Yes") -> tuple[Question, Outcome]:
    question = Question(question=key, batch_id=batch.id, item_key=key)
    return question, Outcome(status=Status.ANSWERED, answer=answer)


def states(store: Store, batch: Batch) -> dict[str, int]:
    return {name: n for name, n in Batches(store).counts(batch.id or 0).items() if n}


def test_item_belongs_to_one_part_only(parts: BatchParts, batch: Batch) -> None:
    items = parts.waiting(batch.id or 0, -1, 10)
    make(parts, batch, limit=4)
    other = make(parts, batch)
    assert other.items == 6
    assert parts.add_items(other, items, lambda _item: 0.0) == 6


def test_change_from_an_older_state_or_by_another_owner_is_refused(
    parts: BatchParts, batch: Batch
) -> None:
    part = make(parts, batch)
    parts.change(part, state=PartState.UPLOADING)
    with pytest.raises(PartTaken):
        parts.change(part, state=PartState.UPLOADING)
    assert parts.take_over(part, "another")  # no worker of the name `me` is registered
    with pytest.raises(PartTaken):
        parts.change(parts.get(part.id or 0).model_copy(update={"owner": "me"}), file_id="x")


def test_part_of_a_live_worker_gets_no_other_owner(
    store: Store, parts: BatchParts, batch: Batch
) -> None:
    part = make(parts, batch)
    Batches(store).register_worker(batch.id or 0, "me", "host", "journal")
    assert not parts.take_over(part, "another")
    assert parts.take_over(part, "me")
    Batches(store).unregister_worker("me")
    assert parts.take_over(part, "another")


def test_results_settle_only_open_items_of_the_part_and_only_once(
    store: Store, parts: BatchParts, batch: Batch
) -> None:
    first, second = make(parts, batch, limit=5), make(parts, batch)
    batch_id = batch.id or 0
    results = [result(batch, "k0"), result(batch, "k9")]
    assert parts.store_results(batch_id, results, first.id) == {Status.ANSWERED: 1}
    assert parts.store_results(batch_id, [result(batch, "k0", "No")], first.id) == {}
    assert parts.store_results(batch_id, [result(batch, "k9")], second.id) == {Status.ANSWERED: 1}
    assert states(store, batch) == {"claimed": 8, "answered": 2}
    assert parts.get(first.id or 0).taken == 1
    assert {record.answer for record in store.page(limit=10)} == {"Yes"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_open_items_and_results_do_not_read_all_open_items(parts: BatchParts, batch: Batch) -> None:
    plans: list[str] = []

    def explain(
        connection: sa.Connection, _cursor: object, text: str, values: object, *_: object
    ) -> None:
        if "SELECT batch_item" in text:
            driver: Any = connection.connection.driver_connection
            rows = driver.execute(f"EXPLAIN QUERY PLAN {text}", values)
            plans.extend(row[-1] for row in rows)

    batch_id = batch.id or 0
    sa.event.listen(sa.Engine, "before_cursor_execute", explain)
    try:
        items = parts.open_items(batch_id, ["k1", "k2", "k9"], [2, 3])
        parts.store_results(batch_id, [result(batch, "k0")])
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", explain)
    assert [item.key for item in items] == ["k1", "k2", "k3", "k9"]
    assert len(plans) == 3
    assert not [plan for plan in plans if "position=?" not in plan and "key=?" not in plan]


def test_close_releases_items_without_a_result(
    store: Store, parts: BatchParts, batch: Batch
) -> None:
    part = make(parts, batch)
    parts.store_results(batch.id or 0, [result(batch, "k3")], part.id)
    assert parts.close(part, PartState.TAKEN).state is PartState.TAKEN
    assert states(store, batch) == {"waiting": 9, "answered": 1}


def test_part_without_room_is_halved_and_waits(parts: BatchParts, batch: Batch) -> None:
    part, other = make(parts, batch, limit=7), make(parts, batch)
    retry_at = time.time() + 60
    assert parts.wait_for_room(part, retry_at=retry_at, error="Full.")
    first, second = [
        item for item in parts.all(batch.id or 0, PartState.READY) if item.id != other.id
    ]
    assert [len(parts.items(half, -1, 10)) for half in (first, second)] == [4, 3]
    assert (first.items, second.items) == (4, 3)
    assert {first.retry_at, second.retry_at, parts.get(other.id or 0).retry_at} == {retry_at}
    assert parts.get(part.id or 0).state is PartState.FAILED
    assert parts.items(part, -1, 10) == []


def test_part_without_room_beside_a_submitted_one_is_not_halved(
    parts: BatchParts, batch: Batch
) -> None:
    part, other = make(parts, batch, limit=7), make(parts, batch)
    parts.change(other, state=PartState.SUBMITTED)
    part = parts.change(part, state=PartState.SUBMITTED, remote_id="b1")
    assert not parts.wait_for_room(part, retry_at=1.0, error="Full.")
    part = parts.get(part.id or 0)
    assert (part.state, part.remote_id, part.attempts) == (PartState.UPLOADED, None, 1)
    assert len(parts.items(part, -1, 10)) == 7


def test_batch_with_an_open_part_is_not_for_workers(
    store: Store, parts: BatchParts, batch: Batch
) -> None:
    part = make(parts, batch, limit=3)
    assert Batches(store).next_open() is None
    assert Batches(store).open_parts() == {batch.id: 1}
    parts.close(part, PartState.TAKEN)
    following = Batches(store).next_open()
    assert following is not None
    assert following.id == batch.id
