"""The store restricted to one caller: all its methods are tested, also those added later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest

from qacli.db.engine import Database
from qacli.db.filters import Filter
from qacli.db.purge import delete_matching
from qacli.db.record_queries import RecordQueries
from qacli.db.records import Store
from qacli.db.stats import stats
from qacli.domain import GroupBy, Outcome, Question, Status
from qacli.errors import NotFound

ANSWERED = Outcome(status=Status.ANSWERED, answer="giraffe", model="m")
QUESTION = Question(
    question="zebra", caller="alice", idempotency_key="k", tags=["t"], context_digest="d"
)

FINDING: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: store.get(1),
    "get_dict": lambda store: store.get_dict(1),
    "by_uid": lambda store: store.by_uid(QUESTION.uid),
    "by_idempotency_key": lambda store: store.by_idempotency_key("k", "alice"),
    "by_response_id": lambda store: store.by_response_id(f"resp_{QUESTION.uid}", "alice"),
    "id_for_uid": lambda store: store.id_for_uid(QUESTION.uid),
    "find_cached": lambda store: store.find_cached(QUESTION),
    "newest": lambda store: store.newest(),
    "thread": lambda store: store.thread(1),
    "thread_ids": lambda store: store.thread_ids(1),
    "followers": lambda store: store.followers(1, 9),
    "get_many": lambda store: store.get_many([1]),
    "find_by_text": lambda store: store.find_by_text("zebra", "giraffe"),
    "find_contexts": lambda store: store.find_contexts(["d"], "alice"),
    "page": lambda store: store.page(limit=9),
    "search": lambda store: store.search(Filter(search="zebra"), 9),
    "dicts": lambda store: store.dicts(Filter(search="zebra")),
    "json_lines": lambda store: store.json_lines(),
    "count": lambda store: store.count(),
}
CHANGING: dict[str, Callable[[Store], Any]] = {
    "change_tags": lambda store: store.change_tags(1, ["stolen"], ["t"]),
    "annotate": lambda store: store.annotate(1, title="stolen"),
    "add_title": lambda store: store.add_title(1, "stolen", ANSWERED),
    "remove": lambda store: store.remove(1),
    "release_idempotency_key": lambda store: store.release_idempotency_key(FAILED.uid),
    "remove_all": lambda store: delete_matching(store, Filter()),
}
FAILED = Question(question="lion", caller="alice", idempotency_key="failed", follows_id=1)
WITHOUT_OWNER = {
    *("upsert", "upsert_many", "upsert_items", "write_items", "delete_reserved"),
    *("save_partial_answers", "replace_failure", "request_cancel", "session"),
    *("visible_to", "with_owner", "owner", "is_response_of_other"),
}
"""Methods that write by a uid, which only its process knows, or that return no record."""


@pytest.fixture
def kept(store: Store) -> Store:
    """A store with two records of alice."""
    assert store.upsert(QUESTION, ANSWERED) == 1
    store.upsert(FAILED, Outcome(status=Status.FAILED, error="refused: No."))
    return store


def found(call: Callable[[Store], Any], store: Store) -> bool:
    """Return whether a method of the store finds any record."""
    with suppress(NotFound):
        result = call(store)
        return any(True for _ in result) if isinstance(result, Iterable) else bool(result)
    return False


@pytest.mark.parametrize("name", FINDING)
def test_finding_method_with_an_owner_returns_only_its_records(kept: Store, name: str) -> None:
    for owner, expected in ((None, True), ("alice", True), ("bob", False), ("", False)):
        assert found(FINDING[name], kept.visible_to(owner)) is expected, owner


@pytest.mark.parametrize("name", CHANGING)
def test_changing_method_with_an_owner_changes_only_its_records(kept: Store, name: str) -> None:
    before = list(kept.dicts())
    with suppress(NotFound):
        CHANGING[name](kept.visible_to("bob"))
    assert list(kept.dicts()) == before
    CHANGING[name](kept.visible_to("alice"))
    assert list(kept.dicts()) != before


def test_request_cancel_with_an_owner_cancels_only_its_records(kept: Store) -> None:
    asking = Question(question="tiger", caller="alice")
    record_id = kept.upsert(asking, Outcome(status=Status.ASKING))
    with pytest.raises(NotFound):
        kept.visible_to("bob").request_cancel(record_id)
    assert kept.save_partial_answers({}, [asking.uid]) == []
    assert kept.visible_to("alice").request_cancel(record_id)
    assert kept.save_partial_answers({}, [asking.uid]) == [asking.uid]


def test_store_methods_are_all_in_one_of_the_lists() -> None:
    names = {**vars(RecordQueries), **vars(Store)}
    public = {name for name in names if not name.startswith("_")}
    assert public == {*FINDING, *CHANGING, *WITHOUT_OWNER} - {"remove_all"}
    assert public.isdisjoint(name for name in vars(Database) if not name.startswith("_"))


def test_stats_with_an_owner_count_only_its_own(kept: Store) -> None:
    assert stats(kept.visible_to("bob"), GroupBy.MODEL, Filter()) == []
    assert stats(kept.visible_to("alice"), GroupBy.MODEL, Filter())[0].records == 1


def test_filter_of_another_owner_is_overridden(kept: Store) -> None:
    assert kept.visible_to("bob").count(Filter(owner="alice")) == 0


# PostgreSQL's plan depends on the number of rows.
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_page_of_one_caller_uses_the_index(store: Store) -> None:
    query = "EXPLAIN QUERY PLAN SELECT * FROM question_answer WHERE caller = ? ORDER BY id LIMIT 9"
    with store.transaction() as connection:
        plan = connection.exec_driver_sql(query, ("bob",)).all()
        by_key = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT * FROM question_answer "
            "WHERE caller IS NULL AND idempotency_key = ?",
            ("k",),
        ).all()
    assert "ix_question_answer_caller_id" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
    assert "uq_question_answer" in str(by_key)
