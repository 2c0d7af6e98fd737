"""The decision: stay with what we have, or buy a rung. Pure: no IO, no clock, no model.

The rule of `choose`, for a target alone; `router.plan` weighs a right answer against its price:

1. What is in hand is good enough when its chance of being right reaches the target: keep it.
2. Otherwise look at the rungs above the one in hand that are open: within the privacy ceiling,
   within what is left of the budget by their *worst* price, and possible at all.
3. A rung is worth buying only if it is more likely right than what is in hand, by at least
   `min_gain`: a hopeless question is not bought.
4. Of those, aim at the cheapest that reaches the target; if none reaches it, at the one with the
   highest chance (the cheaper one on a tie).
5. A cheaper rung below the aim is tried first when that is expected to save money: when its price
   is less than its chance of being right times the price of the aim, and both can be paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from router.prior import P_NOTICED
from router.rungs import Rung


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What one cloud rung would cost and bring, quoted before it is bought."""

    rung: Rung
    p_correct: float
    """Chance of being right if bought, 0..1."""
    prompt_tokens: int
    """Counted on the text that would be sent."""
    expected_usd: Decimal | None
    """None when the model's price is not known."""
    worst_usd: Decimal | None
    """Price if every allowed output token is used and nothing is cached."""
    impossible: str | None = None
    """Why this rung can't be used at all (nothing to send, over the context, no cloud); else None.
    """
    p_fixes: float | None = None
    """P(right if bought | what is in hand is wrong); None where nothing was learned."""
    p_keeps: float | None = None
    """P(right if bought | what is in hand is right)."""
    p_noticed: float = P_NOTICED
    """P(its answer is seen to be doubtful | it is wrong): only then is a higher rung bought."""
    latency_s: float | None = None
    """Seconds until its answer is there; None when not known."""

    def chance_after(self, p_in_hand: float) -> float:
        """P(right if bought), given the chance of what is in hand now.

        Not always `p_correct`: once a lower rung has failed, so has the hope for this one. With
        nothing learned it is."""
        if self.p_fixes is None or self.p_keeps is None:
            return self.p_correct
        return p_in_hand * self.p_keeps + (1 - p_in_hand) * self.p_fixes


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the user allows and wants."""

    target: float
    """Chance of being right that is good enough, 0..1."""
    ceiling: Rung
    """No higher rung is ever used."""
    max_cost_usd: Decimal | None
    """Hard cap for the whole question; None for no cap."""
    min_gain: float = 0.05
    """Least rise in P(correct) that is worth any money, when a right answer has no stated value."""
    value_usd: Decimal | None = None
    """What a right answer is worth; None when only the target counts (used by `router.plan`)."""
    max_latency_s: float | None = None
    """Seconds that are left for the cloud; None for no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do next and why."""

    rung: Rung | None
    """The rung to buy now; None to keep what is in hand."""
    aim: Rung | None
    """The rung that is bought next should this one not do; the same as `rung` without a detour."""
    reason: str
    """One sentence for people."""
    closed: tuple[tuple[Rung, str], ...]
    """Rungs that were not open, each with its reason."""


def closed_because(offer: Offer, wishes: Wishes, spent_usd: Decimal) -> str | None:
    """Why this offer may not be taken, or None when it is open.

    Law 3: with a cap on money, an unknown price closes the rung; it is never taken for 0. Time
    likewise."""
    if not wishes.ceiling.allows(offer.rung):
        return f"above the privacy ceiling `{wishes.ceiling}`"
    if offer.impossible is not None:
        return offer.impossible
    return _too_slow(offer, wishes) or _too_dear(offer, wishes, spent_usd)


def _too_slow(offer: Offer, wishes: Wishes) -> str | None:
    if wishes.max_latency_s is None:
        return None
    if offer.latency_s is None:
        return "its latency is unknown and a latency limit is set"
    if offer.latency_s > wishes.max_latency_s:
        return f"takes about {offer.latency_s:.1f} s and {wishes.max_latency_s:.1f} s are left"
    return None


def _too_dear(offer: Offer, wishes: Wishes, spent_usd: Decimal) -> str | None:
    if wishes.max_cost_usd is None:
        return None
    if offer.worst_usd is None:
        return "its price is unknown and a cost cap is set"
    left = wishes.max_cost_usd - spent_usd
    if offer.worst_usd > left:
        return f"may cost up to ${offer.worst_usd:.6f} and ${left:.6f} is left"
    return None


def choose(
    in_hand: Rung,
    p_in_hand: float,
    offers: Sequence[Offer],
    wishes: Wishes,
    spent_usd: Decimal = Decimal(0),
) -> Decision:
    """Apply the rule above. `offers` may come in any order; those at or below `in_hand` are
    ignored."""
    higher = [offer for offer in offers if offer.rung.height > in_hand.height]
    reasons = {offer.rung: closed_because(offer, wishes, spent_usd) for offer in higher}
    closed = tuple((rung, why) for rung, why in reasons.items() if why is not None)
    if p_in_hand >= wishes.target:
        reason = f"P(correct) {p_in_hand:.2f} reaches the target {wishes.target:.2f}"
        return Decision(rung=None, aim=None, reason=reason, closed=closed)
    worth = [
        offer
        for offer in higher
        if reasons[offer.rung] is None and offer.p_correct >= p_in_hand + wishes.min_gain
    ]
    if not worth:
        reason = _why_nothing(closed, p_in_hand)
        return Decision(rung=None, aim=None, reason=reason, closed=closed)
    aim = min(worth, key=lambda offer: _preference(offer, wishes.target))
    first = _detour(aim, worth, wishes, spent_usd) or aim
    return Decision(
        rung=first.rung, aim=aim.rung, reason=_why(first, aim, p_in_hand, wishes), closed=closed
    )


def _detour(aim: Offer, worth: Sequence[Offer], wishes: Wishes, spent_usd: Decimal) -> Offer | None:
    """The cheapest rung below the aim that is expected to save money, or None (rule 5)."""
    if aim.expected_usd is None:
        return None
    saving = [
        (offer.expected_usd, offer.rung.height, offer)
        for offer in worth
        if offer.rung.height < aim.rung.height
        and offer.expected_usd is not None
        and offer.expected_usd < Decimal(str(offer.p_correct)) * aim.expected_usd
        and _both_payable(offer, aim, wishes, spent_usd)
    ]
    return min(saving)[2] if saving else None


def _both_payable(first: Offer, then: Offer, wishes: Wishes, spent_usd: Decimal) -> bool:
    if wishes.max_cost_usd is None:
        return True
    if first.worst_usd is None or then.worst_usd is None:
        return False
    return spent_usd + first.worst_usd + then.worst_usd <= wishes.max_cost_usd


def _preference(offer: Offer, target: float) -> tuple[bool, float, Decimal, int]:
    """Sort key: offers that reach the target by price; the others by chance, then price."""
    reaches = offer.p_correct >= target
    price = offer.expected_usd if offer.expected_usd is not None else Decimal("Infinity")
    return (not reaches, 0.0 if reaches else -offer.p_correct, price, offer.rung.height)


def _why(first: Offer, aim: Offer, p_in_hand: float, wishes: Wishes) -> str:
    price = "unknown price" if first.expected_usd is None else f"about ${first.expected_usd:.6f}"
    reason = (
        f"P(correct) {p_in_hand:.2f} is under the target {wishes.target:.2f}; "
        f"`{first.rung}` offers {first.p_correct:.2f} for {price}"
    )
    if first is aim:
        return reason
    return f"{reason}, and may save the ${aim.expected_usd:.6f} of `{aim.rung}`"


def _why_nothing(closed: tuple[tuple[Rung, str], ...], p_in_hand: float) -> str:
    """Rungs that are closed for the same reason are named together."""
    if not closed:
        return f"no higher rung is more likely right than P(correct) {p_in_hand:.2f}"
    by_reason: dict[str, list[Rung]] = {}
    for rung, why in closed:
        by_reason.setdefault(why, []).append(rung)
    listed = "; ".join(
        f"{', '.join(f'`{rung}`' for rung in rungs)}: {why}" for why, rungs in by_reason.items()
    )
    return f"no higher rung is open and better ({listed})"
