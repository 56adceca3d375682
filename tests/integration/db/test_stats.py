from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qacli.db.filters import Filter
from qacli.db.stats import StatsRow, stats
from qacli.domain import GroupBy, Outcome, Question, Status

if TYPE_CHECKING:
    from qacli.db.records import Store

OPENAI, LOCAL = "api.openai.com", "localhost:8000"


def add_record(store: Store, endpoint: str | None, **fields: Any) -> None:
    outcome = Outcome(status=Status.ANSWERED, answer="Yes.", endpoint=endpoint, **fields)
    store.upsert(Question(question="?"), outcome)


def test_stats_by_endpoint_adds_up_all_tokens_and_costs(store: Store) -> None:
    counts = {"prompt_tokens": 100, "completion_tokens": 20}
    add_record(store, OPENAI, **counts, cached_tokens=60, reasoning_tokens=15, cost_usd=0.25)
    add_record(store, OPENAI, **counts, cached_tokens=40, cost_usd=0.5, latency_ms=700)
    add_record(store, LOCAL, **counts)
    add_record(store, None)
    assert stats(store, GroupBy.ENDPOINT, Filter()) == [
        StatsRow(OPENAI, 2, 2, 200, 40, 100, 15, 0.75, 700),
        StatsRow("(none)", 1, 1, 0, 0, 0, 0, None, None),
        StatsRow(LOCAL, 1, 1, 100, 20, 0, 0, None, None),
    ]


def test_stats_of_one_endpoint_counts_no_other(store: Store) -> None:
    add_record(store, OPENAI, model="m")
    add_record(store, LOCAL, model="m")
    (row,) = stats(store, GroupBy.MODEL, Filter(endpoint=LOCAL))
    assert (row.name, row.records) == ("m", 1)
