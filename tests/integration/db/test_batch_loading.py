from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from databases import read_records

from qacli.db.batches import Batches
from qacli.domain import Outcome, Question, Status
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.db.records import Store

ANSWERED = Outcome(status=Status.ANSWERED, answer="A", cost_usd=0.5)


@pytest.fixture
def batches(store: Store) -> Batches:
    return Batches(store)


def rows(text: str, *, ids: bool = True) -> list[dict[str, Any]]:
    """Return the items of a file whose rows are words: `a`, or `a=other question`."""
    items = []
    for position, part in enumerate(text.split()):
        key, _, question = part.partition("=")
        question = question or f"Question {key}"
        item = {"place": f"Line {position + 1}", "has_id": ids, "position": position}
        key = key if ids else f"{position + 1}-{question}"
        items.append({**item, "key": key, "payload": {"question": question}})
    return items


def load(batches: Batches, text: str, *, ids: bool = True, **options: Any) -> int:
    items = rows(text, ids=ids)
    pages = [items[start : start + 2] for start in range(0, len(items), 2)]
    return batches.load("n", {}, pages, {}, **options).id or 0


def answer(batches: Batches, batch_id: int, *keys: str) -> None:
    results = [
        (Question(question=f"Question {key}", batch_id=batch_id, item_key=key), ANSWERED)
        for key in keys
    ]
    batches.store.upsert_items(batch_id, results)


def answers(batches: Batches, batch_id: int) -> list[str]:
    """Return the keys of the answered items, in order."""
    return [item.key for page in batches.all_finished(batch_id) for item in page]


def waiting(batches: Batches, batch_id: int) -> list[str]:
    """Claim all items, and return their keys in order."""
    batches.register_worker(batch_id, "w", "h", "j", label="w", lease_seconds=60)
    items = batches.claim(batch_id, "w", 100, lambda _item: 0.0)
    batches.unregister_worker("w")
    return [item.key for item in items]


@pytest.mark.parametrize(
    ("after", "answered", "rest"),
    [
        ("c b a", ["c", "a"], ["b"]),
        ("a b x c y", ["a", "c"], ["b", "x", "y"]),
        ("x y a b c", ["a", "c"], ["x", "y", "b"]),
        ("c b", ["c"], ["b"]),
        ("b c d a e", ["c", "a"], ["b", "d", "e"]),
    ],
)
def test_load_rows_with_ids_can_be_moved_inserted_and_removed(
    batches: Batches, after: str, answered: list[str], rest: list[str]
) -> None:
    batch_id = load(batches, "a b c")
    answer(batches, batch_id, "a", "c")
    assert load(batches, after) == batch_id
    assert batches.get("n").items == len(after.split())
    assert answers(batches, batch_id) == answered
    assert waiting(batches, batch_id) == rest


def test_load_row_removed_and_added_again_keeps_its_answer(batches: Batches) -> None:
    batch_id = load(batches, "a b c")
    answer(batches, batch_id, "a", "b", "c")
    load(batches, "a c")
    load(batches, "a b c")
    assert answers(batches, batch_id) == ["a", "b", "c"]
    load(batches, "a c")
    # The row with this id has another question now.
    load(batches, "a b=Other c")
    assert waiting(batches, batch_id) == ["b"]


def test_load_changed_rows_are_named_and_asked_anew_on_request(
    batches: Batches, database_url: str
) -> None:
    batch_id = load(batches, "a b c d")
    answer(batches, batch_id, "a", "b", "c")
    with pytest.raises(InvalidRequest) as caught:
        load(batches, "a b=Other c d=Other")
    assert "Line 2 (id 'b'), Line 4 (id 'd') changed" in caught.value.what
    assert "--changed" in caught.value.todo
    assert waiting(batches, batch_id) == ["d"]
    messages: list[str] = []
    load(batches, "a b=Other c d=Other", ask_changed=True, report=messages.append)
    assert "Line 2 (id 'b')" in messages[0]
    assert waiting(batches, batch_id) == ["b", "d"]
    # The answer to the earlier question stays in the history, with its cost.
    records = read_records(database_url)
    assert [record["item_key"] for record in records] == ["a", None, "c"]
    assert batches.summary(batch_id).cost_usd == 1.5
    answer(batches, batch_id, "b")
    assert len(read_records(database_url)) == 4


def test_load_rows_without_ids_are_named_by_their_place(batches: Batches) -> None:
    batch_id = load(batches, "a b c", ids=False)
    with pytest.raises(InvalidRequest) as caught:
        load(batches, "a x c d", ids=False)
    assert caught.value.what.startswith("Line 2 changed")
    assert "--id COLUMN" in caught.value.todo
    load(batches, "a x c d", ids=False, ask_changed=True)
    assert waiting(batches, batch_id) == [
        "1-Question a",
        "2-Question x",
        "3-Question c",
        "4-Question d",
    ]
    with pytest.raises(InvalidRequest) as caught:
        load(batches, "a x", ids=False)
    assert "2 of the 4 rows" in caught.value.what
    load(batches, "a x", ids=False, ask_changed=True)
    assert batches.get("n").items == 2


def test_load_another_file_under_the_name_is_refused(batches: Batches) -> None:
    batch_id = load(batches, "a b c")
    with pytest.raises(InvalidRequest) as caught:
        load(batches, "x y z")
    assert "3 of the 3 rows" in caught.value.what
    assert waiting(batches, batch_id) == ["a", "b", "c"]


def test_load_moved_rows_while_a_process_works_are_refused(batches: Batches) -> None:
    batch_id = load(batches, "a b c")
    batches.register_worker(batch_id, "w", "h", "j", label="w", lease_seconds=60)
    with pytest.raises(InvalidRequest) as caught:
        load(batches, "b a c")
    assert "another process works" in caught.value.what
    # Rows that are added at the end are not a change.
    load(batches, "a b c d")
    batches.unregister_worker("w")
    load(batches, "d b a c")
    assert waiting(batches, batch_id) == ["d", "b", "a", "c"]


def test_load_cells_of_a_row_are_brought_up_to_date(batches: Batches) -> None:
    items = rows("a b")
    batches.load("n", {}, [items], {})
    answer(batches, batches.get("n").id or 0, "a")
    items[0]["payload"]["row"] = ["a", "new"]
    batches.load("n", {}, [items], {"columns": ["id", "note"]})
    assert batches.get("n").columns == ["id", "note"]
    assert batches.counts(batches.get("n").id or 0)["answered"] == 1


def test_load_same_key_twice_in_a_changed_file_is_refused(batches: Batches) -> None:
    load(batches, "a b c")
    for text in ("a b c a", "a b c d d"):
        with pytest.raises(InvalidRequest, match="occurs twice"):
            load(batches, text)
