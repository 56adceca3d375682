from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from shutil import copy2
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from conftest import KEY
from fake_provider import Reply as Faked

from qacli.batch.claims import reclaim_stale
from qacli.batch.lease import WorkerLock, outbox_id, remove_stale_locks
from qacli.batch.options import BatchOptions
from qacli.batch.output import ResultOutput
from qacli.batch.progress import Progress
from qacli.batch.recorder import BatchRecorder
from qacli.batch.runner import BatchRunner
from qacli.batch.writer import ResultWriter
from qacli.config.settings import Settings
from qacli.cost import Pricing
from qacli.db.batches import Batches
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.errors import DatabaseError, KeyRejected
from qacli.json_schema import response_format
from qacli.provider.client import AsyncProvider
from qacli.provider.endpoint import Endpoint
from qacli.recording.journal_format import outcome_entry, question_entry
from qacli.recording.outbox import Outbox
from qacli.recording.recovery import recover_outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fake_provider import FakeProvider

ANSWERED = Outcome(status=Status.ANSWERED, answer="A")


class GatedStore(Store):
    """A store whose writes of items wait for `gate`, or fail while `is_down`."""

    is_down = False
    writes = 0

    def __init__(self, url: str, *, connections: int = 0) -> None:
        super().__init__(url, connections=connections)
        self.gate = threading.Event()
        self.gate.set()
        self.write_started = threading.Event()

    def upsert_items(self, batch_id: int, settled: Sequence[tuple[Question, Outcome]]) -> None:
        self.writes += 1
        self.write_started.set()
        if self.is_down:
            raise DatabaseError("It is down.")
        assert self.gate.wait(30)
        super().upsert_items(batch_id, settled)


class WatchedBatches(Batches):
    """The batches of a `GatedStore`; counts how often a worker is unregistered."""

    store: GatedStore
    unregistrations = 0

    def unregister_worker(self, worker: str) -> None:
        self.unregistrations += 1
        if self.store.is_down:
            raise DatabaseError("It is down.")
        super().unregister_worker(worker)


@pytest.fixture
def batches(home: Path) -> WatchedBatches:
    return WatchedBatches(GatedStore.open(f"sqlite:///{home / 'history.db'}"))


@pytest.fixture
def outbox(home: Path) -> Outbox:
    return Outbox(home / "outbox")


def load_batch(batches: Batches, questions: list[str]) -> int:
    """Load a batch of these questions, and return its id."""
    items = [
        {"position": n, "key": f"k{n}", "payload": {"question": question}}
        for n, question in enumerate(questions)
    ]
    batch_id = batches.load("n", {}, [items], {}).id
    assert batch_id is not None
    return batch_id


def new_question(batch_id: int, number: int) -> Question:
    """Return the question of the item `k{number}`."""
    return Question(question=f"Question {number}", batch_id=batch_id, item_key=f"k{number}")


def recorder_of(batches: Batches, outbox: Outbox, batch_id: int, **parts: Any) -> BatchRecorder:
    return BatchRecorder(
        batches=batches,
        outbox=outbox,
        options=BatchOptions(batch_id=batch_id, model="m", **parts),
        progress=Progress(0),
        output=ResultOutput(batches, batch_id, None, unordered=False),
    )


async def run_async(
    batches: Batches,
    outbox: Outbox,
    provider: FakeProvider,
    batch_id: int,
    progress: Progress | None = None,
    **plan: Any,
) -> BatchRunner:
    """Run a batch to its end, and return the runner."""
    settings = Settings(api_key=KEY, base_url=provider.base_url)
    endpoint = Endpoint(base_url=provider.base_url, key=KEY, model="m")
    options = BatchOptions(batch_id=batch_id, model="m", **plan)
    async with AsyncProvider(endpoint, settings, connections=options.jobs) as client:
        engine = BatchRunner(
            batches=batches,
            outbox=outbox,
            provider=client,
            options=options,
            prices=Pricing(),
            output=None,
            progress=progress or Progress(sum(batches.counts(batch_id).values())),
        )
        await engine.run()
    return engine


def run(*arguments: Any, **plan: Any) -> BatchRunner:
    return asyncio.run(asyncio.wait_for(run_async(*arguments, **plan), 30))


def test_engine_run_asks_all_items_and_empties_the_outbox(
    batches: Batches, outbox: Outbox, provider: FakeProvider
) -> None:
    questions = [f"Question {n}" for n in range(50)]
    batch_id = load_batch(batches, questions)
    engine = run(batches, outbox, provider, batch_id, jobs=8)
    assert batches.counts(batch_id)["answered"] == 50
    assert Counter(request.question for request in provider.requests) == Counter(questions)
    assert (engine.progress.done, engine.progress.failed, engine.stopped) == (50, 0, None)
    assert batches.workers(batch_id) == []
    assert list(outbox.directory.iterdir()) == []


def test_engine_jobs_limit_the_requests_in_flight(
    batches: Batches, outbox: Outbox, provider: FakeProvider
) -> None:
    batch_id = load_batch(batches, [f"Question {n} [[latency=0.05]]" for n in range(40)])
    run(batches, outbox, provider, batch_id, jobs=5)
    assert provider.max_concurrent == 5


def test_engine_rejected_key_stops_and_fails_no_item(
    batches: Batches, outbox: Outbox, provider: FakeProvider
) -> None:
    provider.default = "status=401"
    batch_id = load_batch(batches, [f"Question {n}" for n in range(50)])
    engine = run(batches, outbox, provider, batch_id, jobs=4)
    assert isinstance(engine.stopped, KeyRejected)
    assert batches.counts(batch_id) == {"waiting": 50, "claimed": 0, "answered": 0, "failed": 0}
    assert len(provider.requests) <= 8


def test_engine_timeout_limits_each_attempt(
    batches: Batches, outbox: Outbox, provider: FakeProvider
) -> None:
    batch_id = load_batch(batches, ["Slow [[dribble=0.05]]", "Quick"])
    engine = run(batches, outbox, provider, batch_id, jobs=2, timeout=0.5, retries=0)
    assert (engine.progress.done, engine.progress.failed) == (1, 1)
    [failed] = [
        record for record in batches.store.page(limit=1000) if record.status is Status.FAILED
    ]
    assert failed.error_kind == "provider-timeout"


def test_engine_items_claimed_by_another_worker_are_waited_for(
    batches: Batches, outbox: Outbox, provider: FakeProvider
) -> None:
    batch_id = load_batch(batches, ["one", "two"])
    elsewhere = WorkerLock(outbox.directory, "other")
    batches.register_worker(batch_id, "other", elsewhere.host, elsewhere.name)
    [theirs] = batches.claim(batch_id, "other", 1)
    progress = Progress(2)

    async def both() -> None:
        asking = asyncio.create_task(
            run_async(batches, outbox, provider, batch_id, progress, jobs=2)
        )
        await asyncio.sleep(1.5)
        assert not asking.done()
        assert [request.question for request in provider.requests] == ["two"]
        assert (progress.finished, progress.total) == (1, 2)
        batches.store.upsert_items(batch_id, [(new_question(batch_id, theirs.position), ANSWERED)])
        await asyncio.wait_for(asking, 10)
        # The progress counts the items of all workers.
        assert (progress.finished, progress.finished_in_this_run) == (2, 1)

    asyncio.run(both())
    elsewhere.close(left=True)
    assert batches.counts(batch_id)["answered"] == 2
    assert len(provider.requests) == 1


def test_progress_update_counts_other_workers_and_never_decreases() -> None:
    progress = Progress(10, done=2, failed=1)
    progress.done += 3
    progress.update({"waiting": 2, "claimed": 2, "answered": 4, "failed": 2})
    assert (progress.done, progress.failed, progress.finished) == (5, 2, 7)
    assert progress.finished_before_run == 3
    # Rows were added meanwhile, and the failed items are asked again.
    progress.update({"waiting": 1, "claimed": 0, "answered": 11, "failed": 0})
    assert (progress.total, progress.done, progress.finished) == (12, 11, 12)


def test_recorder_killed_with_database_down_loses_no_answer(
    batches: Batches, outbox: Outbox
) -> None:
    count = 2500
    batch_id = load_batch(batches, [f"Question {n}" for n in range(count)])
    store = batches.store
    assert isinstance(store, GatedStore)

    async def take_all() -> None:
        recorder = recorder_of(batches, outbox, batch_id)
        ended = asyncio.create_task(recorder.wait_until_ended())
        store.gate.clear()
        taken = [
            asyncio.create_task(recorder.enqueue(new_question(batch_id, n), ANSWERED))
            for n in range(count)
        ]
        await asyncio.to_thread(store.write_started.wait, 10)
        # A kill now would leave exactly what is in the journals.
        noted = {entry.question.item_key for entry in outbox.pending()}
        store.gate.set()
        await asyncio.gather(*taken)
        recorder.end()
        await ended
        recorder.close()
        assert len(noted) == count

    asyncio.run(take_all())
    assert batches.counts(batch_id)["answered"] == count
    assert list(outbox.directory.iterdir()) == []


def test_engine_database_down_too_long_is_waited_for_once(
    batches: WatchedBatches, outbox: Outbox, provider: FakeProvider
) -> None:
    batch_id = load_batch(batches, ["One?"])
    batches.store.is_down = True
    with pytest.raises(DatabaseError, match="It is down"):
        run(batches, outbox, provider, batch_id, jobs=1, max_outage=2)
    batches.store.is_down = False
    assert batches.store.writes > 1
    assert batches.unregistrations == 1
    # The next run delivers the answer from the outbox, and asks nothing twice.
    assert recover_outbox(outbox, batches.store) == 1
    run(batches, outbox, provider, batch_id, jobs=1)
    assert batches.counts(batch_id)["answered"] == 1
    assert len(provider.requests) == 1


def test_recorder_refused_record_is_set_aside_others_are_stored(
    batches: Batches, outbox: Outbox
) -> None:
    batch_id = load_batch(batches, [f"Question {n}" for n in range(5)])
    # A key is unique in the database: the last of these records is refused.
    keys = {0: "same", 4: "same"}
    asks = [replace(new_question(batch_id, n), idempotency_key=keys.get(n)) for n in range(5)]

    async def save_all() -> None:
        recorder = recorder_of(batches, outbox, batch_id)
        for ask in asks:
            await recorder.enqueue(ask, ANSWERED)
        recorder.end()
        await recorder.wait_until_ended()
        recorder.close()

    asyncio.run(save_all())
    assert batches.counts(batch_id) == {"waiting": 0, "claimed": 0, "answered": 4, "failed": 1}
    [failed] = [
        record for record in batches.store.page(limit=1000) if record.status is Status.FAILED
    ]
    assert failed.item_key == "k4"
    assert failed.error_kind == "record-refused"
    # The answer is still in a journal that was set aside.
    reports: list[str] = []
    recover_outbox(outbox, batches.store, report=reports.append)
    assert len(reports) == 1
    [aside] = outbox.set_aside()
    assert '"answer": "A"' in aside.read_text()
    assert batches.counts(batch_id)["answered"] == 4


def test_recorder_full_disk_and_database_down_reports_lost_number(
    batches: WatchedBatches, outbox: Outbox
) -> None:
    batch_id = load_batch(batches, ["One?"])
    outbox.directory.write_text("not a directory")
    batches.store.is_down = True

    async def save_one() -> None:
        recorder = recorder_of(batches, outbox, batch_id, max_outage=1)
        await recorder.enqueue(new_question(batch_id, 0), ANSWERED)
        assert not recorder.is_safe
        recorder.end()
        try:
            await recorder.wait_until_ended()
        finally:
            recorder.close()

    with pytest.raises(DatabaseError, match="1 answer could be stored neither"):
        asyncio.run(save_one())


def test_recorder_journal_drops_only_stored_questions(batches: Batches, outbox: Outbox) -> None:
    batch_id = load_batch(batches, [f"Question {n}" for n in range(20)])
    store = batches.store
    assert isinstance(store, GatedStore)

    def pending_keys() -> set[str | None]:
        return {entry.question.item_key for entry in outbox.pending()}

    async def take_all() -> None:
        recorder = recorder_of(batches, outbox, batch_id)
        ended = asyncio.create_task(recorder.wait_until_ended())
        store.gate.clear()
        for n in range(10):
            await recorder.enqueue(new_question(batch_id, n), ANSWERED)
        await asyncio.to_thread(store.write_started.wait, 10)
        # The answers that arrive while the first group is written are in the next one.
        for n in range(10, 20):
            await recorder.enqueue(new_question(batch_id, n), ANSWERED)
        store.gate.set()
        while len(pending_keys()) == 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        store.gate.clear()
        assert pending_keys() == {f"k{n}" for n in range(10, 20)}
        store.gate.set()
        recorder.end()
        await ended
        recorder.close()

    asyncio.run(take_all())


def test_output_items_added_during_the_run_are_written(batches: Batches, home: Path) -> None:
    batch_id = load_batch(batches, ["one", "two"])
    batches.store.upsert_items(batch_id, [(new_question(batch_id, n), ANSWERED) for n in range(2)])

    with ResultWriter(home / "out.jsonl", "jsonl") as output:
        lines = ResultOutput(batches, batch_id, output, unordered=True)
        lines.write()
        lines.write(["k1"])
    assert len((home / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def expire_leases(batches: Batches) -> None:
    """Make the leases of all workers expire."""
    with batches.store.transaction(write=True) as connection:
        connection.execute(sa.text("UPDATE batch_worker SET seen_at = seen_at - 61"))


def test_take_over_process_that_ended_delivers_and_releases(
    batches: Batches, outbox: Outbox
) -> None:
    batch_id = load_batch(batches, [f"Question {n}" for n in range(5)])
    journal, lock = outbox.open(), WorkerLock(outbox.directory, "gone")
    batches.register_worker(batch_id, "gone", lock.host, lock.name)
    batches.claim(batch_id, "gone", 4)
    ask = new_question(batch_id, 0)
    journal.append(question_entry(ask), outcome_entry(ask.uid, ANSWERED))
    assert reclaim_stale(batches, outbox, batch_id) == 0
    journal.close()
    # That its journal was delivered does not show that the process has ended.
    assert reclaim_stale(batches, outbox, batch_id) == 0
    lock.close(left=False)
    assert reclaim_stale(batches, outbox, batch_id) == 3
    assert batches.counts(batch_id) == {"waiting": 4, "claimed": 0, "answered": 1, "failed": 0}
    assert batches.workers(batch_id) == []
    assert reclaim_stale(batches, outbox, batch_id) == 0
    assert list(outbox.directory.iterdir()) == []


@pytest.mark.parametrize("copied", ["nothing", "the id", "all"])
def test_take_over_other_data_directory_waits_for_the_lease(
    batches: Batches, outbox: Outbox, home: Path, copied: str
) -> None:
    batch_id = load_batch(batches, ["one", "two"])
    lock = WorkerLock(outbox.directory, "alive")
    batches.register_worker(batch_id, "alive", lock.host, lock.name)
    batches.claim(batch_id, "alive", 2)
    other = Outbox(home / "copy" / "outbox")
    if copied != "nothing":
        other.directory.mkdir(parents=True)
        copy2(home / "outbox.id", home / "copy" / "outbox.id")
    if copied == "all":
        copy2(outbox.directory / lock.name, other.directory)
    assert reclaim_stale(batches, other, batch_id) == 0
    expire_leases(batches)
    assert reclaim_stale(batches, other, batch_id) == 2
    lock.close(left=True)


def test_outbox_id_created_by_many_at_once_is_one_private_file(home: Path) -> None:
    outbox = home / "outbox"
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(outbox_id, [outbox] * 16))
    assert ids == {outbox_id(outbox)}
    assert (home / "outbox.id").stat().st_mode & 0o777 == 0o600
    # After a power failure the file may be empty.
    (home / "outbox.id").write_text("")
    assert outbox_id(outbox) not in ids


def test_remove_stale_locks_keeps_held_known_and_new_locks(outbox: Outbox) -> None:
    locks = {name: WorkerLock(outbox.directory, name) for name in ("held", "known", "new", "old")}
    for name, lock in locks.items():
        if name != "held":
            lock.close(left=False)
        if name != "new":
            os.utime(outbox.directory / lock.name, (1, 1))
    remove_stale_locks(outbox.directory, {"known.worker"})
    left = sorted(path.stem for path in outbox.directory.iterdir())
    assert left == ["held", "known", "new"]
    locks["held"].close(left=True)


def test_engine_evicted_while_asking_ends_its_requests_and_goes_on(
    batches: Batches, outbox: Outbox, provider: FakeProvider, wait_for: Callable[..., Any]
) -> None:
    slow, count = "[[latency=3]]", 12
    batch_id = load_batch(batches, [f"Question {n} {slow}" for n in range(count)])
    progress = Progress(count)

    async def both() -> None:
        asking = asyncio.create_task(
            run_async(batches, outbox, provider, batch_id, progress, jobs=4)
        )
        await asyncio.to_thread(wait_for, lambda: len(provider.requests) == 4)
        # As after a suspend of the machine: another worker evicts it and claims two of its items.
        expire_leases(batches)
        [(worker, late)] = batches.workers(batch_id)
        assert late
        batches.evict(worker)
        batches.register_worker(batch_id, "other", "elsewhere", "other.worker")
        taken = batches.claim(batch_id, "other", 2)
        assert [item.position for item in taken] == [0, 1]
        await asyncio.to_thread(
            wait_for, lambda: len(progress.active_items) < 4 or progress.done, 20
        )
        batches.store.upsert_items(
            batch_id, [(new_question(batch_id, item.position), ANSWERED) for item in taken]
        )
        batches.unregister_worker("other")
        await asyncio.wait_for(asking, 30)

    asyncio.run(both())
    assert batches.counts(batch_id)["answered"] == count
    assert Counter(request.question for request in provider.requests) == Counter(
        f"Question {n} {slow}" for n in range(count)
    )
    by_key = {record.item_key: record.answer for record in batches.store.page(limit=1000)}
    assert len(by_key) == count
    assert [key for key, answer in by_key.items() if answer == "A"] == ["k0", "k1"]
    assert list(outbox.directory.iterdir()) == []


def test_engine_items_lost_while_they_wait_for_a_job_are_not_asked(
    batches: Batches, outbox: Outbox, provider: FakeProvider, wait_for: Callable[..., Any]
) -> None:
    provider.script("status=429 retry_after=0.01")
    latencies = (0, 2, 0, 0.05, 0.05, 0.05)
    questions = [f"Question {n} [[latency={seconds}]]" for n, seconds in enumerate(latencies)]
    batch_id = load_batch(batches, questions)
    progress = Progress(len(questions))
    taken = [0, 2]

    def is_waiting_for_a_job() -> bool:
        active = {item.key: item for item in progress.active_items.values()}
        retry_at = active["k0"].retry_at if len(active) == 2 else None
        return retry_at is not None and monotonic() > retry_at and len(provider.requests) == 2

    async def both() -> None:
        asking = asyncio.create_task(
            run_async(batches, outbox, provider, batch_id, progress, jobs=1, lease_seconds=1.5)
        )
        await asyncio.to_thread(wait_for, is_waiting_for_a_job)
        # Another worker claims an item that waits for its retry, and one that was not asked yet.
        with batches.store.transaction(write=True) as connection:
            update = "UPDATE batch_item SET worker = 'other' WHERE position IN (0, 2)"
            connection.execute(sa.text(update))
        await asyncio.to_thread(
            wait_for, lambda: batches.evict(next(worker for worker, _ in batches.workers(batch_id)))
        )
        batches.register_worker(batch_id, "other", "elsewhere", "other.worker")
        await asyncio.to_thread(
            wait_for, lambda: "k0" not in {item.key for item in progress.active_items.values()}
        )
        assert progress.done == 0, "the only job was held meanwhile"
        batches.store.upsert_items(batch_id, [(new_question(batch_id, n), ANSWERED) for n in taken])
        batches.unregister_worker("other")
        await asyncio.wait_for(asking, 30)

    asyncio.run(both())
    assert batches.counts(batch_id)["answered"] == len(questions)
    assert [request.question for request in provider.requests] == [
        question for n, question in enumerate(questions) if n != 2
    ]


FITS = {"type": "object", "required": ["name"]}
REX = '{"name": "Rex"}'


def with_schema(batches: Batches, texts: list[str], **params: Any) -> int:
    """Load a batch of questions with a schema, and return its id."""
    payload = {"params": {"response_format": response_format(FITS), **params}}
    items = [
        {"position": n, "key": f"k{n}", "payload": {"question": text, **payload}}
        for n, text in enumerate(texts)
    ]
    batch_id = batches.load("n", {}, [items], {}).id
    assert batch_id is not None
    return batch_id


def test_engine_answer_unfit_for_schema_is_corrected_once(
    batches: Batches, outbox: Outbox, provider: FakeProvider
) -> None:
    batch_id = with_schema(batches, ["Invent a dog"])
    provider.script(Faked(text="Rex"), Faked(text="", status=503), Faked(text=REX))
    engine = run(batches, outbox, provider, batch_id, jobs=1)
    assert (engine.progress.done, engine.progress.failed) == (1, 0)
    [record] = batches.store.page(limit=1000)
    assert (record.question, record.answer, record.error) == ("Invent a dog", REX, None)
    asked, *_, last = (request.body["messages"] for request in provider.requests)
    assert len(provider.requests) == 3
    assert [each["content"] for each in last[:2]] == [asked[0]["content"], "Rex"]
    assert "does not fit the schema" in last[2]["content"]
    # Both answers are paid; this provider counts words as tokens.
    assert record.completion_tokens == 1 + len(REX.split())


def test_engine_answer_unfit_twice_or_cut_fails(
    batches: Batches, outbox: Outbox, provider: FakeProvider
) -> None:
    batch_id = with_schema(batches, ["One", "Two", "Three"])
    provider.script(
        *(Faked(text="Rex"), Faked(text="[]")),
        Faked(text='{"na', finish_reason="length"),
        Faked(text=REX),
    )
    engine = run(batches, outbox, provider, batch_id, jobs=1)
    assert (engine.progress.done, engine.progress.failed) == (1, 2)
    records = batches.store.page(limit=1000)
    assert [record.status for record in records] == ["failed", "failed", "answered"]
    assert [record.answer for record in records] == ["[]", '{"na', REX]
    assert all(record.error_kind == "unfit-answer" for record in records[:2])
    assert len(provider.requests) == 4


def test_engine_item_with_messages_is_not_checked_by_schema(
    batches: Batches, outbox: Outbox, provider: FakeProvider
) -> None:
    messages = [{"role": "user", "content": "Invent a dog"}]
    batch_id = with_schema(batches, ["Invent a dog"], messages=messages)
    assert run(batches, outbox, provider, batch_id, jobs=1).progress.done == 1
    assert len(provider.requests) == 1


def test_engine_stopped_in_a_correction_keeps_the_first_answer(
    batches: Batches, outbox: Outbox, provider: FakeProvider, wait_for: Callable[..., Any]
) -> None:
    batch_id = with_schema(batches, ["One"])
    provider.script(Faked(text="Rex"), Faked(text=REX, latency=30))

    async def stopped() -> None:
        asking = asyncio.create_task(
            run_async(batches, outbox, provider, batch_id, jobs=1, grace=0.1)
        )
        await asyncio.to_thread(wait_for, lambda: len(provider.requests) == 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(asyncio.wait_for(stopped(), 30))
    [record] = batches.store.page(limit=1000)
    assert record.status is Status.INTERRUPTED
    assert record.completion_tokens
    assert batches.counts(batch_id)["waiting"] == 1
