from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from qacli.config.budgets import Budget, budgets_of
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_provider import FakeProvider
    from flask import Flask

    from qacli.db.records import Store

ASK = {"question": "Who am I?"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Who am I?"}]}
TOKENS = "alice=token-of-alice-0123,bob=token-of-bob-0123456"
ALICE = {"Authorization": "Bearer token-of-alice-0123"}
BOB = {"Authorization": "Bearer token-of-bob-0123456"}
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def spend(store: Store, caller: str, dollars: float | None, at: datetime | None = None) -> None:
    question = Question(
        question="Who?", caller=caller, **({} if at is None else {"created_at": at})
    )
    store.upsert(question, Outcome(status=Status.ANSWERED, answer="You.", cost_usd=dollars))


@pytest.mark.parametrize("period", ["day", "total"])
def test_budget_spent_refuses_the_caller_alone(
    store: Store, build: Callable[..., Flask], provider: FakeProvider, period: str
) -> None:
    client = build(budgets=f"alice=1/{period}", tokens=TOKENS).test_client()
    spend(store, "alice", 0.9)
    assert client.post("/ask", json=ASK, headers=ALICE).status_code == 200
    spend(store, "alice", 0.1)
    spend(store, "alice", None)
    asked = len(provider.requests)
    refused = client.post("/ask", json=ASK, headers=ALICE)
    problem: dict[str, Any] = refused.get_json(force=True)
    assert (refused.status_code, problem["kind"]) == (429, "budget-spent")
    assert "budget of alice, 1 US dollars" in problem["detail"]
    assert ("Retry-After" in refused.headers) is (period == "day")
    error = client.post("/v1/chat/completions", json=CHAT, headers=ALICE)
    assert error.status_code == 429
    body = error.get_json()["error"]
    assert body["type"] == body["code"] == "insufficient_quota"
    assert error.headers["X-Should-Retry"] == "false"
    assert len(provider.requests) == asked
    # Reading is free, and another caller has no budget.
    assert client.get("/qas", headers=ALICE).status_code == 200
    assert client.post("/ask", json=ASK, headers=BOB).status_code == 200


def test_budget_of_a_period_ignores_earlier_records(
    store: Store, build: Callable[..., Flask]
) -> None:
    spend(store, "alice", 5, datetime(2020, 1, 1, tzinfo=UTC))
    client = build(budgets="alice=1/month,*=2/total", tokens=TOKENS).test_client()
    assert client.post("/ask", json=ASK, headers=ALICE).status_code == 200
    assert client.post("/ask", json=ASK, headers=BOB).status_code == 200
    spend(store, "bob", 2, datetime(2020, 1, 1, tzinfo=UTC))
    # Its date is old, but its id is new, so the total counts it.
    assert client.post("/ask", json=ASK, headers=BOB).status_code == 429


@pytest.mark.parametrize(
    ("period", "begin", "end"),
    [
        ("day", datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 28, tzinfo=UTC)),
        ("week", datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)),
        ("month", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("total", None, None),
    ],
)
def test_budget_period_begins_and_ends_at_midnight(
    period: str, begin: datetime | None, end: datetime | None
) -> None:
    budget = Budget(1, period)
    assert (budget.begin(NOW), budget.end(NOW)) == (begin, end)


@pytest.mark.parametrize(
    "text",
    ["alice", "alice=5", "alice=5/year", "alice=x/day", "a=1/day,a=2/day", "=1/day", "a=-1/day"],
)
def test_budgets_of_invalid_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it has no message
        budgets_of(text)


def test_budgets_of_text_has_amounts_and_periods() -> None:
    assert budgets_of("alice=5.00/day, *=$20/month") == {
        "alice": Budget(5.0, "day"),
        "*": Budget(20.0, "month"),
    }
