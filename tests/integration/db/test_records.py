from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from statements import counted

from qacli.config.settings import Settings
from qacli.db import migrate
from qacli.db.importers import ImportedRecord, import_records
from qacli.db.models import RECORDS
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.errors import NotFound
from qacli.serializers import record_to_dict


def new_question(question: str = "Who am I?", **fields: object) -> Question:
    return replace(Question(question=question, params={"model": "m"}), **fields)


ANSWERED = Outcome(
    status=Status.ANSWERED,
    answer="You are here.",
    answered_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    latency_ms=1200,
    first_token_ms=300,
    model="m-2026",
    provider_response_id="r-1",
    finish_reason="stop",
    prompt_tokens=3,
    completion_tokens=4,
    cost_usd=0.000123,
)


def test_upsert_record_is_read_back_unchanged(store: Store) -> None:
    ask = new_question(
        "Grüße, 世界 🌍\r\n\ttab'\"\\ ",
        system="Be brief.",
        params={"model": "m", "temperature": 0.5},
        tags=["a", "ß"],
        follows_id=7,
        idempotency_key="k",
    )
    record_id = store.upsert(ask, ANSWERED)
    fields = store.get(record_id).to_dict()
    expected = {**fields_of(ask), **fields_of(ANSWERED), "id": record_id}
    assert fields == {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in expected.items()
    }


def fields_of(item: Question | Outcome) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(item)


def test_upsert_reserved_record_is_completed_under_its_id(store: Store) -> None:
    ask = new_question()
    reserved = store.upsert(ask, Outcome())
    assert store.get(reserved).status is Status.ASKING
    assert store.upsert(ask, ANSWERED) == reserved
    assert store.get(reserved).answer == "You are here."


def test_upsert_second_outcome_keeps_the_first(store: Store) -> None:
    ask = new_question()
    first = store.upsert(ask, ANSWERED)
    assert store.upsert(ask, Outcome(status=Status.INTERRUPTED)) == first
    assert store.get(first).status is Status.ANSWERED
    assert len(store.page(limit=10)) == 1


def test_upsert_of_an_outcome_uses_no_new_id(store: Store) -> None:
    ids = []
    for _ in range(3):
        ask = new_question()
        store.upsert(ask, Outcome())
        ids.append(store.upsert(ask, ANSWERED))
    assert ids == [1, 2, 3]


def test_page_by_keyset_in_both_directions_returns_all(store: Store) -> None:
    ids = [store.upsert(new_question(str(number)), ANSWERED) for number in range(7)]
    assert [record.id for record in store.page(limit=3)] == ids[:3]
    assert [record.id for record in store.page(limit=3, after=ids[2])] == ids[3:6]
    assert [record.id for record in store.page(limit=3, newest_first=True)] == ids[:-4:-1]
    assert [record.id for record in store.page(limit=9, before=ids[2])] == ids[:2]
    assert [record.id for record in store.page(limit=1000)] == ids
    assert [record.id for record in store.page(after=ids[0], limit=2)] == ids[1:3]


@pytest.mark.parametrize("edge", [-(10**30), -1, 0, 2**63 - 1, 2**63, 10**30])
def test_page_with_any_integer_as_bound_works(store: Store, edge: int) -> None:
    record_id = store.upsert(new_question(), ANSWERED)
    assert [item.id for item in store.page(limit=5, after=edge)] == (
        [record_id] if edge < 1 else []
    )
    assert [item.id for item in store.page(limit=5, before=edge)] == (
        [record_id] if edge > 1 else []
    )


@pytest.mark.parametrize("record_id", [-1, 0, 99, 2**63, 10**30])
def test_get_and_remove_unknown_record_raise(store: Store, record_id: int) -> None:
    with pytest.raises(NotFound):
        store.get(record_id)
    with pytest.raises(NotFound):
        store.remove(record_id)


def test_remove_newest_record_never_reuses_its_id(store: Store) -> None:
    first = store.upsert(new_question(), ANSWERED)
    store.remove(first)
    with pytest.raises(NotFound):
        store.get(first)
    assert store.upsert(new_question(), ANSWERED) == first + 1


def test_newest_returns_the_last_record(store: Store) -> None:
    with pytest.raises(NotFound):
        store.newest()
    store.upsert(new_question("one"), ANSWERED)
    store.upsert(new_question("two"), ANSWERED)
    assert store.newest().question == "two"


@pytest.mark.parametrize("kept", ["keep", "keep_items", "take_in"])
def test_find_cached_same_question_is_found_however_stored(store: Store, kept: str) -> None:
    ask = new_question(params={"model": "m", "n": 1.0, "top_p": 1e22, "x": [0.1, {"b": 2.0}]})
    if kept == "keep_items":
        ask = replace(ask, batch_id=1, item_key="k")
    outcome = replace(ANSWERED, status=Status.FAILED)
    if kept == "keep":
        store.upsert(ask, Outcome())
        assert store.find_cached(ask) is None
        store.upsert(ask, ANSWERED)
    elif kept == "keep_items":
        store.upsert_items(1, [(ask, outcome)])
        assert store.find_cached(ask) is None
        store.upsert_items(1, [(replace(ask, uid="other"), ANSWERED)])
    else:
        import_records(store, [ImportedRecord.model_validate(record_to_dict(ask, ANSWERED, 7))])
    same = new_question(params={"x": [0.1, {"b": 2}], "top_p": 10**22, "n": 1, "model": "m"})
    for asked in (ask, same, replace(ask, uid="another", tags=["t"], system="")):
        found = store.find_cached(asked)
        assert found is not None
        assert found.answer == "You are here."
    for changed in (
        {"question": "Who am I"},
        {"system": "s"},
        {"params": {**ask.params, "n": True}},
        {"params": {"model": "m"}},
        {"follows_id": 1},
        {"attachments": [{"name": "a", "size": 1, "sha256": "0"}]},
    ):
        assert store.find_cached(replace(ask, **changed)) is None


def test_find_cached_returns_the_newest_by_its_index(store: Store) -> None:
    for text in ("old", "new"):
        newest = store.upsert(new_question(), replace(ANSWERED, answer=text))
        store.upsert(new_question(), replace(ANSWERED, status=Status.FAILED))
    found = store.find_cached(new_question())
    assert found is not None
    assert (found.id, found.answer) == (newest, "new")
    query = "SELECT id FROM question_answer WHERE fingerprint = 1 AND status = 'answered'"
    query += " ORDER BY id DESC LIMIT 1"
    explain = "EXPLAIN QUERY PLAN " if store.sqlite else "EXPLAIN "
    with store.transaction() as connection:
        if not store.sqlite:
            connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        plan = " ".join(str(row) for row in connection.execute(sa.text(explain + query)))
    assert "ix_question_answer_fingerprint_id" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


def test_find_cached_other_question_of_same_key_is_not_found(store: Store) -> None:
    store.upsert(new_question("one"), ANSWERED)
    twin = new_question("two").cache_key
    with store.transaction(write=True) as connection:
        connection.execute(sa.update(RECORDS).values(fingerprint=twin))
    assert store.find_cached(new_question("two")) is None


def test_find_cached_records_from_before_the_column_are_found(database_url: str) -> None:
    store = Store(Settings(database_url=database_url).database)
    with store.migrating() as connection:
        migrate.upgrade(connection)
    asks = [
        new_question(f"Question {n} 🌍", system="s", params={"model": "m", "temperature": 0.1})
        for n in range(1203)
    ]
    for start in range(0, len(asks), 401):
        store.upsert_items(
            1, [(replace(a, batch_id=1, item_key=a.uid), ANSWERED) for a in asks[start:]]
        )
    with store.migrating() as connection:
        migrate.downgrade(connection, "0003")
        assert "fingerprint" not in {
            column["name"] for column in sa.inspect(connection).get_columns("question_answer")
        }
    with store.migrating() as connection:
        migrate.upgrade(connection)
    for ask in (asks[0], asks[500], asks[1202]):
        assert store.find_cached(ask) is not None
    store.close()


def test_upsert_many_of_a_single_record_is_one_statement(store: Store) -> None:
    ask = new_question()
    for outcome, count in ((Outcome(), 1), (ANSWERED, 1), (ANSWERED, None)):
        with counted() as log:
            assert store.upsert_many([(ask, outcome)]) == {ask.uid: 1}
        # A second outcome changes nothing, so the stored one is read.
        assert count in {None, len([text for text in log if text != "connect"])}
    pair = (new_question(system="Be brief. " * 99), Outcome())
    assert store.upsert_many([pair]) == {pair[0].uid: store.newest().id}
    assert store.newest().system == pair[0].system


def test_upsert_record_that_is_reserved_is_synced_only_with_a_key(store: Store) -> None:
    with counted() as statements:
        record_id = store.upsert(ask := new_question(), Outcome())
        store.upsert(new_question(idempotency_key="k-1"), Outcome())
        store.upsert(ask, ANSWERED)

    writes = [statement for statement in statements if statement.startswith(("INSERT", "UPDATE"))]
    assert ["set_config(" in write for write in writes] == [not store.sqlite, False, False]
    assert store.get(record_id).status is Status.ANSWERED
