"""Prices are exact, and an unknown one is never 0 (Law 3)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.cloud.model import CloudUsage
from minions.cloud.prices import GenaiPrices, ModelPrice, nano_usd

BOOK = GenaiPrices()


def usage(prompt: int, cached: int = 0, output: int = 0, reasoning: int = 0) -> CloudUsage:
    return CloudUsage(
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=output,
        reasoning_tokens=reasoning,
    )


@pytest.mark.parametrize(
    ("model", "used", "usd"),
    [
        ("gpt-4o", usage(1_000_000), "2.5"),
        ("gpt-4o", usage(0, output=1_000_000), "10"),
        ("gpt-4.1", usage(1000, cached=500, output=100), "0.00205"),
        ("openai/gpt-4.1", usage(1000, cached=500, output=100), "0.00205"),
        ("anthropic/claude-sonnet-4-5", usage(1000, output=100), "0.0045"),
        ("o3", usage(1000, output=100, reasoning=90), "0.0028"),
        ("gemini-2.5-pro", usage(200_000), "0.25"),
        ("gemini-2.5-pro", usage(300_000), "0.75"),
        ("gpt-4.1", usage(0), "0"),
    ],
)
def test_listed_prices(model: str, used: CloudUsage, usd: str) -> None:
    assert BOOK.cost_usd(model, used) == Decimal(usd)


@pytest.mark.parametrize(
    "model", ["sim-reader", "gpt-4-of-tomorrow", "openai/sim-reader", "nobody/gpt-4.1", "", "/"]
)
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert BOOK.cost_usd(model, usage(10)) is None
    assert BOOK.context_tokens(model) is None


def test_a_listed_model_without_rates_has_no_price() -> None:
    assert BOOK.cost_usd("azure/mai-ds-r1:free", usage(10, output=10)) is None
    assert BOOK.cost_usd("azure/mai-ds-r1:free", usage(0)) is None


def test_a_missing_output_rate_is_missed_only_when_there_is_output() -> None:
    model = "aws/amazon.titan-embed-text-v1"
    assert BOOK.cost_usd(model, usage(1_000_000)) == Decimal("0.1")
    assert BOOK.cost_usd(model, usage(1_000_000, output=1)) is None


def test_no_listed_model_raises_or_is_taken_for_free() -> None:
    for provider in providers:
        for model in provider.models[:20]:
            cost = BOOK.cost_usd(f"{provider.id}/{model.id}", usage(1000, output=1000))
            assert cost is None or cost >= 0


def test_context_windows() -> None:
    assert BOOK.context_tokens("gpt-4o") == 128_000
    assert BOOK.context_tokens("openai/gpt-4.1") == 1_000_000


def test_own_prices_win_and_change_the_snapshot() -> None:
    mine = ModelPrice(
        input_usd_per_mtok=Decimal(2),
        cached_input_usd_per_mtok=Decimal("0.5"),
        output_usd_per_mtok=Decimal(8),
        context_tokens=4096,
    )
    book = GenaiPrices({"my-model": mine})
    assert book.cost_usd("my-model", usage(1000, cached=400, output=10)) == Decimal("0.00148")
    assert book.context_tokens("my-model") == 4096
    assert BOOK.snapshot_id.startswith("genai-prices 0.")
    assert book.snapshot_id.startswith(BOOK.snapshot_id + " + overrides ")


def test_cached_tokens_cost_as_others_where_no_rate_is_given() -> None:
    price = ModelPrice(input_usd_per_mtok=Decimal(2), output_usd_per_mtok=Decimal(8))
    assert price.cost_usd(usage(1000, cached=1000)) == price.cost_usd(usage(1000))


@given(st.decimals(min_value=0, max_value=10**12, places=20, allow_nan=False))
@settings(max_examples=200, deadline=None)
def test_nano_usd_rounds_half_up_exactly(cost: Decimal) -> None:
    exact = Fraction(cost) * 10**9
    assert Fraction(-1, 2) < nano_usd(cost) - exact <= Fraction(1, 2)


@pytest.mark.parametrize("cost", ["-0.1", "NaN", "Infinity"])
def test_nano_usd_of_no_cost(cost: str) -> None:
    with pytest.raises(ValueError, match="from 0 up"):
        nano_usd(Decimal(cost))


def test_nano_usd_of_a_half() -> None:
    assert nano_usd(Decimal("0.0000000005")) == 1
    assert nano_usd(Decimal("0.00000000049999999999999999999999999999999999")) == 0
