"""The hard cap: whatever happens in whatever order, spent + reserved never passes it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.budget import Budget
from minions.errors import BudgetExceeded, PriceUnknown

money = st.decimals(min_value=0, max_value=5, places=6)


@given(money, st.lists(st.tuples(money, st.none() | st.floats(0, 1), st.booleans())))
def test_the_cap_holds(cap: Decimal, calls: list[tuple[Decimal, float | None, bool]]) -> None:
    """Calls with a worst price, a real share of it (None: unknown), settled now or at the end."""
    budget = Budget(cap_usd=cap)
    open_calls = []
    for worst, share, settle_now in calls:
        try:
            reserved = budget.reserve(worst)
        except BudgetExceeded:
            continue
        actual = None if share is None else worst * Decimal(str(share))
        if settle_now:
            budget.settle(reserved, actual)
        else:
            open_calls.append((reserved, actual))
        assert budget.spent_usd + budget.reserved_usd <= cap
    for reserved, actual in open_calls:
        budget.settle(reserved, actual)
    assert budget.reserved_usd == 0
    assert budget.spent_usd <= cap


def test_an_unknown_price_can_not_be_kept_under_a_cap() -> None:
    with pytest.raises(PriceUnknown, match="known price"):
        Budget(cap_usd=Decimal(1)).reserve(None)


def test_without_a_cap_everything_is_allowed_and_counted() -> None:
    budget = Budget(cap_usd=None)
    reserved = budget.reserve(None)
    budget.settle(reserved, Decimal("0.5"))
    assert budget.left_usd is None
    assert budget.spent_usd == Decimal("0.5")
