"""A hard cap on money: reserve the worst price before a call, settle the real one after it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from minions.errors import BudgetExceeded, PriceUnknown


@dataclass(kw_only=True, slots=True)
class Budget:
    """What one question may still spend. Invariant: spent + reserved <= cap."""

    cap_usd: Decimal | None
    """None for no cap."""
    spent_usd: Decimal = Decimal(0)
    """Settled, with calls of unknown outcome taken at their worst price."""
    reserved_usd: Decimal = Decimal(0)

    @property
    def left_usd(self) -> Decimal | None:
        """What may still be reserved; None for no cap."""
        if self.cap_usd is None:
            return None
        return self.cap_usd - self.spent_usd - self.reserved_usd

    def reserve(self, worst_usd: Decimal | None) -> Decimal:
        """Set `worst_usd` aside and return it. Raises PriceUnknown (a cap is set and there is no
        price) or BudgetExceeded; nothing is reserved then."""
        if self.cap_usd is None:
            return Decimal(0)
        if worst_usd is None:
            raise PriceUnknown(
                "The price of this cloud model is unknown, so a cost cap can't be kept. Choose a "
                "model with a known price, or leave out --max-cost-usd."
            )
        left = self.left_usd
        if left is not None and worst_usd > left:
            raise BudgetExceeded(
                f"This call may cost up to ${worst_usd:.6f}, but only ${left:.6f} of the cap of "
                f"${self.cap_usd} is left. Raise --max-cost-usd or lower --privacy."
            )
        self.reserved_usd += worst_usd
        return worst_usd

    def settle(self, reserved_usd: Decimal, actual_usd: Decimal | None) -> None:
        """End a reservation. `actual_usd` None means that the call may have been billed and no
        usage came back: the whole reservation counts as spent."""
        self.reserved_usd -= reserved_usd
        self.spent_usd += reserved_usd if actual_usd is None else actual_usd
