from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qacli.cost import Pricing, Usage, estimate_tokens
from qacli.errors import NotConfigured

if TYPE_CHECKING:
    from pathlib import Path

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "cost"),
    [
        ("gpt-5-mini", 2.25),
        ("gpt-5-mini-2025-08-07", 2.25),
        ("gpt-5", 11.25),
        ("gpt-5-2025-08-07", 11.25),
        ("gpt-4o-mini", 0.75),
        ("gpt-5-minimal", None),
        ("gpt-5-turbo-2025-08-07", None),
        ("gpt", None),
        ("", None),
        (None, None),
    ],
)
def test_a_model_costs_what_its_name_without_a_date_costs(
    model: str | None, cost: float | None
) -> None:
    assert Pricing().cost(model, Usage(MILLION, MILLION)) == cost


def test_what_is_unknown_is_none_and_never_nothing() -> None:
    assert Pricing().cost("gpt-5-mini", Usage(None, 4)) is None
    assert Pricing().cost("gpt-5-mini", Usage(4, None)) is None
    assert Pricing().cost("gpt-5-mini", Usage(0, 0)) == 0


def test_prices_of_ones_own_go_first(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('"my-model" = [1, 2.5]\n"gpt-5-mini" = [10.0, 20]\n')
    prices = Pricing.load(file)
    assert prices.cost("my-model", Usage(MILLION, MILLION)) == 3.5
    assert prices.cost("gpt-5-mini-2025-08-07", Usage(MILLION, 0)) == 10
    assert prices.cost("gpt-5", Usage(MILLION, 0)) == 1.25
    assert Pricing.load(tmp_path / "none.toml").cost("my-model", Usage(1, 1)) is None


@pytest.mark.parametrize(
    "content", ['"m" = 1', '"m" = [1]', '"m" = ["a", "b"]', '"m" = [', '"m" = {a = 1}', "\xff"]
)
def test_prices_that_cannot_be_read_are_said_in_one_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(NotConfigured) as caught:
        Pricing.load(file)
    assert str(file) in caught.value.what
    assert "[0.25" in caught.value.todo


def test_tokens_are_estimated_by_length() -> None:
    assert estimate_tokens("") == 1
    assert estimate_tokens("x" * 4000) == pytest.approx(1000, abs=1)
