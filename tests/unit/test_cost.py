from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from qacli.config.defaults import DEFAULT_MODEL
from qacli.cost import Pricing, Usage, estimate_tokens
from qacli.errors import NotConfigured
from qacli.price_table import Price, PriceTable

if TYPE_CHECKING:
    from pathlib import Path

MILLION = 1_000_000


NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
ONE_OF_EACH = Usage(100_000, 100_000)
"""Its cost in dollars is a tenth of the sum of both prices for a million tokens."""


@pytest.mark.parametrize(
    ("model", "endpoint", "sum_of_prices"),
    [
        ("gpt-6-luna", "api.openai.com", 0.6),
        ("gpt-6-luna-2026-09-22", "api.openai.com", 0.6),
        ("gpt-5-mini-2025-08-07", "api.openai.com", 2.25),
        ("GPT-5-mini", "api.openai.com:443", 2.25),
        ("gpt-4o-2024-05-13", "api.openai.com", 20.0),
        ("gpt-5-minimal", "api.openai.com", None),
        ("gpt-5-turbo-2025-08-07", "api.openai.com", None),
        ("gpt", "api.openai.com", None),
        ("", "api.openai.com", None),
        (None, "api.openai.com", None),
        ("claude-opus-5-20260801", "api.anthropic.com", 30.0),
        ("models/gemini-3.5-flash-lite", "generativelanguage.googleapis.com", 2.8),
        ("gpt-6-luna", "me.openai.azure.com", 0.6),
        ("openai/gpt-6-luna", "openrouter.ai", 0.6),
        ("qwen/qwen3-235b-a22b", "openrouter.ai", 0.73),
        ("llama-3.3-70b-versatile", "api.groq.com", 1.38),
        ("gpt-6-luna", "api.groq.com", None),
        # Gateways: only the name of the model counts.
        ("gpt-6-luna", "gateway.example.com", 0.6),
        ("openai/gpt-6-luna", "gateway.example.com", 0.6),
        ("mistral-large-2512", "gateway.example.com", 2.0),
        ("llama-3.3-70b-versatile", "gateway.example.com", None),
        ("gpt-6-luna", None, 0.6),
        # The cost of open weights on the user's machines is unknown.
        ("gpt-6-luna", "localhost:4000", 0.6),
        ("mistral-large-2512", "127.0.0.1:11434", None),
        ("deepseek-chat", "192.168.1.7:8000", None),
        ("gpt-oss-120b", "ollama:11434", None),
        ("gemma-3-27b-it", "[::1]:8080", None),
        ("SmolLM2-135M-Instruct.Q4_1", "local", None),
        ("gpt-6-luna", "local", None),
    ],
)
def test_cost_of_a_model_at_an_endpoint_is_its_price_or_none(
    model: str | None, endpoint: str | None, sum_of_prices: float | None
) -> None:
    cost = Pricing().cost(model, ONE_OF_EACH, endpoint=endpoint, at=NOON)
    assert cost == (sum_of_prices and pytest.approx(sum_of_prices / 10))


def test_cost_without_a_count_of_tokens_is_none_and_never_zero() -> None:
    assert Pricing().cost("gpt-6-luna", Usage(None, 4)) is None
    assert Pricing().cost("gpt-6-luna", Usage(4, None)) is None
    assert Pricing().cost("gpt-6-luna", Usage(0, 0)) == 0


def test_cost_of_the_provider_has_precedence() -> None:
    assert Pricing().cost("gpt-6-luna", Usage(1, 1, cost_usd=0.5)) == 0.5
    assert Pricing().cost("unheard-of", Usage(cost_usd=0.0), endpoint="local") == 0.0


def test_cost_of_cached_input_is_lower() -> None:
    usage = Usage(100_000, 0, cached_tokens=80_000)
    assert Pricing().cost("gpt-6-luna", usage, at=NOON) == pytest.approx(0.002 + 0.0008)
    # More cached tokens than prompt tokens are wrong, but the cost is not negative.
    assert Pricing().cost("gpt-6-luna", Usage(10, 0, cached_tokens=99)) == pytest.approx(1e-7)
    # No price for cached input: no discount.
    own = Pricing({"m": Price(1.0, 2.0)})
    assert own.cost("m", Usage(MILLION, 0, cached_tokens=MILLION)) == 1.0


@pytest.mark.parametrize(
    ("tier", "dollars"),
    [
        (None, 1.2),
        ("default", 1.2),
        ({"not": "a text"}, 1.2),
        ("flex", 0.6),
        ("batch", 0.6),
        ("priority", 2.4),
        ("fast", 2.4),
    ],
)
def test_cost_of_a_service_tier_differs(tier: object, dollars: float) -> None:
    usage = Usage(100_000, 100_000)
    cost = Pricing().cost("gpt-6-sol", usage, endpoint="api.openai.com", tier=tier, at=NOON)
    assert cost == pytest.approx(dollars)


def test_cost_of_a_premium_tier_without_a_price_is_none() -> None:
    for prices in (Pricing(), Pricing({"claude-opus-5": Price(1.0, 2.0)})):
        assert prices.cost("claude-opus-5", ONE_OF_EACH, tier="priority") is None
    own = Pricing({"m": Price(1.0, 2.0)})
    assert own.cost("m", Usage(MILLION, 0), tier="flex") == 0.5
    # Groq's flex tier costs the same.
    flex = Pricing().cost(
        "llama-3.3-70b-versatile", ONE_OF_EACH, endpoint="api.groq.com", tier="flex"
    )
    assert flex == pytest.approx(0.138)


def test_cost_of_a_long_prompt_is_higher() -> None:
    assert Pricing().cost("gpt-6-luna", Usage(272_000, 0)) == pytest.approx(0.0272)
    assert Pricing().cost("gpt-6-luna", Usage(300_000, 10_000)) == pytest.approx(0.06 + 0.0075)


def test_cost_depends_on_the_time_where_prices_do() -> None:
    peak = datetime(2026, 11, 27, 9, 59, tzinfo=timezone(timedelta(hours=2)))  # 07:59 UTC
    quiet = datetime(2026, 11, 27, 12, tzinfo=UTC)
    costs = [
        Pricing().cost("deepseek-flash", ONE_OF_EACH, endpoint="api.deepseek.com", at=at)
        for at in (peak, quiet)
    ]
    assert costs == [pytest.approx(0.15), pytest.approx(0.075)]


def test_cost_changes_on_the_date_of_a_new_price() -> None:
    document = {
        "generated": "2026-11-27",
        "hosts": {"api.openai.com": "openai"},
        "patterns": {},
        "providers": {
            "openai": {
                "models": {
                    "m": {
                        "price": [1, 2],
                        "from": {"2026-12-01": [3, 4], "2027-01-01": [5, 6]},
                        "tiers": {"priority": [9, 9]},
                    }
                }
            }
        },
    }
    table = PriceTable(document)

    def price(day: str, tier: str | None = None) -> Price | None:
        at = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        return table.price("m", "api.openai.com", prompt_tokens=1, tier=tier, at=at)

    assert price("2026-11-30") == Price(1, 2)
    assert price("2026-12-01") == Price(3, 4)
    assert price("2027-02-01") == Price(5, 6)
    assert price("2027-02-01", "priority") == Price(9, 9)


def test_prices_file_has_precedence_over_the_table(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(
        '"my-model" = [1, 2.5]\n"gpt-5-mini" = [10.0, 20]\n"cached" = [1, 2, 0.1]\n'
        '"parts" = {input = 1, output = 2, cached = 0.5}\n"gw.example.com:8443/gpt-5" = [7, 7]\n'
        '"local/smol" = [0, 0]\n'
    )
    prices = Pricing.load(file)
    assert prices.cost("my-model", Usage(MILLION, MILLION)) == 3.5
    assert prices.cost("gpt-5-mini-2025-08-07", Usage(MILLION, 0)) == 10
    assert prices.cost("cached", Usage(MILLION, 0, cached_tokens=MILLION)) == pytest.approx(0.1)
    assert prices.cost("parts", Usage(MILLION, 0, cached_tokens=MILLION)) == 0.5
    assert prices.cost("gpt-5", Usage(MILLION, 0), endpoint="api.openai.com") == 1.25
    assert prices.cost("gpt-5", Usage(MILLION, 0), endpoint="gw.example.com:8443") == 7
    # The user's price table says that it is free.
    assert prices.cost("smol", Usage(MILLION, 0), endpoint="local") == 0
    assert Pricing.load(tmp_path / "none.toml").cost("my-model", Usage(1, 1)) is None


@pytest.mark.parametrize(
    "content",
    [
        '"m" = 1',
        '"m" = [1]',
        '"m" = ["a", "b"]',
        '"m" = "12"',
        '"m" = [1, 2, 3, 4]',
        '"m" = [1, -2]',
        '"m" = [1, nan]',
        '"m" = [',
        '"m" = {a = 1}',
        '"m" = {input = 1}',
        '"m" = {input = 1, output = 2, cache = 3}',
        "\xff",
    ],
)
def test_prices_file_that_is_wrong_is_one_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(NotConfigured) as caught:
        Pricing.load(file)
    assert str(file) in caught.value.what
    assert "[0.25" in caught.value.todo


def test_price_table_is_not_older_than_90_days() -> None:
    age = datetime.now(UTC).date() - PriceTable.load().generated
    assert age <= timedelta(days=90), (
        f"qacli/data/prices.json is {age.days} days old. Run: "
        "uv run --group dev python docs/generate_prices.py (see CONTRIBUTING.md)"
    )


def test_default_model_has_a_price() -> None:
    assert Pricing().price(DEFAULT_MODEL, "api.openai.com") is not None


def test_tokens_are_estimated_by_length() -> None:
    assert estimate_tokens("") == 1
    assert estimate_tokens("x" * 4000) == pytest.approx(1000, abs=1)
