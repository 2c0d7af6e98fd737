"""Exact prices of cloud calls, in Decimal dollars, from a price list that ships with the package.

`genai-prices` knows cached rates, long-context tiers and dated prices; it is asked offline only.
Its list names models without any rate (free or not yet priced): here those are unknown, never 0
(Law 3).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import version

from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ModelInfo, PriceCalculation, Provider, Usage

from minions.cloud.model import CloudUsage

_TOKENS_PER_RATE = Decimal(1_000_000)
_NANO = 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPrice:
    """Rates of one custom or self-hosted model, in dollars per million tokens."""

    input_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    """None where cached tokens cost as much as others."""
    output_usd_per_mtok: Decimal
    """For all output tokens, reasoning included."""
    context_tokens: int | None = None

    def cost_usd(self, usage: CloudUsage) -> Decimal:
        """Dollars of this usage, exact."""
        cached_rate = self.cached_input_usd_per_mtok
        if cached_rate is None:
            cached_rate = self.input_usd_per_mtok
        fresh_tokens = usage.prompt_tokens - usage.cached_tokens
        total = (
            fresh_tokens * self.input_usd_per_mtok
            + usage.cached_tokens * cached_rate
            + usage.completion_tokens * self.output_usd_per_mtok
        )
        return total / _TOKENS_PER_RATE


@functools.cache
def _list_version() -> str:
    """Read from the package's metadata once: it is asked for with every quote."""
    return version("genai-prices")


class GenaiPrices:
    """`PriceBook` over the bundled list of `genai-prices`; it never uses a network.

    A model is named bare (`gpt-4.1`) or with its provider (`openai/gpt-4.1`,
    `openrouter/openai/gpt-4.1`). `overrides` win over the list, by the name exactly as given.
    """

    def __init__(self, overrides: Mapping[str, ModelPrice] | None = None) -> None:
        self._overrides = dict(overrides or {})
        # An own snapshot: the package's global one can be swapped for a downloaded one by others.
        self._snapshot = DataSnapshot(providers=providers, from_auto_update=False)
        self._provider_ids = frozenset(provider.id for provider in providers)

    @property
    def snapshot_id(self) -> str:
        """The list's version, with a hash of the overrides where there are any."""
        listed = f"genai-prices {_list_version()}"
        if not self._overrides:
            return listed
        rows = repr(sorted(self._overrides.items())).encode()
        return f"{listed} + overrides {hashlib.sha256(rows).hexdigest()[:12]}"

    def cost_usd(self, model: str, usage: CloudUsage) -> Decimal | None:
        """Dollars of this usage at today's rates; None when any rate that it needs is unknown."""
        if override := self._overrides.get(model):
            return override.cost_usd(usage)
        found = self._find(model)
        if found is None:
            return None
        priced = _calculate(*found, usage)
        return priced.total_price if _has_rates(priced, usage) else None

    def context_tokens(self, model: str) -> int | None:
        """The model's context window; None when the list does not tell."""
        if override := self._overrides.get(model):
            return override.context_tokens
        found = self._find(model)
        return found[1].context_window if found else None

    def _find(self, model: str) -> tuple[Provider, ModelInfo] | None:
        provider, slash, name = model.partition("/")
        named = bool(slash) and provider in self._provider_ids
        try:
            return self._snapshot.find_provider_model(
                name if named else model, None, provider if named else None, None
            )
        except LookupError:
            return None


def _calculate(provider: Provider, model: ModelInfo, usage: CloudUsage) -> PriceCalculation:
    counts = Usage(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
    )
    return model.calc_price(counts, provider)


def _has_rates(priced: PriceCalculation, usage: CloudUsage) -> bool:
    """Whether each kind of token that was used has a rate of its own in the list."""
    rates = priced.model_price
    needed = {"input_mtok": usage.prompt_tokens, "output_mtok": usage.completion_tokens}
    known = {name for name in needed if getattr(rates, name, None) is not None}
    return bool(known) and all(name in known for name, tokens in needed.items() if tokens)


def nano_usd(cost: Decimal) -> int:
    """Billionths of a dollar, rounded half up; exact for any number of digits.

    Raises ValueError on a negative or non-finite cost.
    """
    if not cost.is_finite() or cost < 0:
        raise ValueError(f"a cost must be a finite number of dollars from 0 up, not {cost}")
    numerator, denominator = cost.as_integer_ratio()
    return (2 * numerator * _NANO + denominator) // (2 * denominator)
