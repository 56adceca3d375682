from __future__ import annotations

import pytest

from qacli.cost import Pricing, Usage
from qacli.provider.response import ChatResponse


def test_outcome_has_the_cost_of_each_attempt_at_its_own_price() -> None:
    response = ChatResponse(endpoint="api.openai.com", model="gpt-6-luna")
    response.usage = Usage(100_000, 0)
    response.add_detail("service_tier", "flex")
    response.reset()
    # The next attempt fails before its model is known.
    assert response.outcome(Pricing()).cost_usd == pytest.approx(0.005)
    response.model, response.usage = "gpt-6-sol", Usage(100_000, 0)
    outcome = response.outcome(Pricing())
    assert outcome.cost_usd == pytest.approx(0.005 + 0.2)
    assert outcome.prompt_tokens == 200_000


def test_outcome_has_the_cost_of_an_attempt_at_another_endpoint() -> None:
    response = ChatResponse(endpoint="api.openai.com", model="gpt-6-luna")
    response.usage = Usage(100_000, 0)
    response.reset()
    response.endpoint, response.usage = "llm.example.com", Usage(5, 5, cost_usd=0.5)
    assert response.outcome(Pricing()).cost_usd == pytest.approx(0.01 + 0.5)


def test_outcome_with_one_attempt_of_unknown_price_has_no_cost() -> None:
    response = ChatResponse(endpoint="api.openai.com", model="gpt-6-luna", usage=Usage(10, 10))
    response.discard()
    response.model, response.usage = "unheard-of", Usage(10, 10)
    assert response.outcome(Pricing()).cost_usd is None
    assert ChatResponse().outcome(Pricing()).cost_usd is None


def test_outcome_of_the_local_engine_has_no_cost() -> None:
    response = ChatResponse(endpoint="local", model="gpt-6-luna", usage=Usage(10, 10))
    assert response.outcome(Pricing()).cost_usd is None
