"""The purchase plan: which rungs, in which order, are worth their price. Pure.

A plan is a chain of rungs from cheap to dear. The first is bought; if its answer is seen to be
doubtful (no verified quote, or an abstention) the next one is, and so on. Chances along a chain:

- rungs are nested: what a lower rung answers rightly, a higher one does too. So after rung j was
  wrong, rung k is right with chance (p_k - p_j) / (1 - p_j): a question on which the cheap rung
  failed is a harder question. This is the cautious reading; independence would promise more;
- a right answer is taken for one; a wrong one is noticed with chance `p_noticed`.

Three cloud rungs make at most seven chains, so each is worked out exactly and the best is taken:

- with `value_usd`: value * min(P(correct), target) - expected price, the highest;
- without: min(P(correct), target) the highest, then the lowest expected price.

Chance beyond the target is worth nothing: that is what "good enough" means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

from router.decision import Decision, Offer, Wishes, closed_because
from router.rungs import Rung

UNPRICED = "its price is unknown, so it can't be weighed against what a right answer is worth"
DOMINATED = "another open rung is as likely right and costs no more"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to buy, in which order, and what is to be expected of it."""

    rungs: tuple[Rung, ...]
    """Lowest first; each but the first is bought only when those before it seem to have failed.
    Empty: keep what is in hand."""
    p_correct: float
    """P(the answer in the end is right), 0..1."""
    expected_usd: Decimal | None
    """Expected price of the whole plan; None when a price in it is unknown."""
    worst_usd: Decimal | None
    """Price if every rung is bought and each costs its worst."""
    net_usd: Decimal | None
    """Expected value less expected price; None when no value was stated."""
    closed: tuple[tuple[Rung, str], ...]
    """Rungs that were not considered, each with its reason."""


def plan_purchases(
    in_hand: Rung,
    p_in_hand: float,
    offers: Sequence[Offer],
    wishes: Wishes,
    spent_usd: Decimal = Decimal(0),
) -> Plan:
    """The best plan from here. Never passes the ceiling, the cap (by worst prices, the whole chain
    together) or the latency limit. `offers` at or below `in_hand` are ignored."""
    higher = sorted(
        (offer for offer in offers if offer.rung.height > in_hand.height),
        key=lambda offer: offer.rung.height,
    )
    closed = _closed(higher, p_in_hand, wishes, spent_usd)
    keep = _keep(p_in_hand, wishes, tuple(closed.items()))
    if p_in_hand >= wishes.target:
        return keep
    usable = [offer for offer in higher if offer.rung not in closed]
    chains = [
        chain
        for length in range(1, len(usable) + 1)
        for chain in combinations(usable, length)
        if _fits(chain, wishes, spent_usd)
    ]
    plans = [_follow(chain, p_in_hand, wishes, keep.closed) for chain in chains]
    return max([keep, *_worthwhile(plans, p_in_hand, wishes)], key=lambda p: _merit(p, wishes))


def choose_by_value(
    in_hand: Rung,
    p_in_hand: float,
    offers: Sequence[Offer],
    wishes: Wishes,
    spent_usd: Decimal = Decimal(0),
) -> Decision:
    """The first step of the best plan, in the form of `choose`, which it can stand in for."""
    plan = plan_purchases(in_hand, p_in_hand, offers, wishes, spent_usd)
    first, aim = (plan.rungs[0], plan.rungs[-1]) if plan.rungs else (None, None)
    return Decision(rung=first, aim=aim, reason=_why(plan, p_in_hand, wishes), closed=plan.closed)


def _closed(
    offers: Sequence[Offer], p_in_hand: float, wishes: Wishes, spent_usd: Decimal
) -> dict[Rung, str]:
    reasons: dict[Rung, str] = {}
    for offer in offers:
        why = closed_because(offer, wishes, spent_usd)
        if why is None and wishes.value_usd is not None and offer.expected_usd is None:
            why = UNPRICED
        if why is not None:
            reasons[offer.rung] = why
    usable = [offer for offer in offers if offer.rung not in reasons]
    for offer in usable:
        if any(_dominates(other, offer, p_in_hand, wishes) for other in usable):
            reasons[offer.rung] = DOMINATED
    return reasons


def _dominates(one: Offer, other: Offer, p_in_hand: float, wishes: Wishes) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better. Among equals the lower
    rung, which shows the cloud less, wins."""
    ours, theirs = _costs(one, wishes), _costs(other, wishes)
    if ours is None or theirs is None:
        return False
    gain = one.chance_after(p_in_hand) - other.chance_after(p_in_hand)
    if gain < 0 or any(a > b for a, b in zip(ours, theirs, strict=True)):
        return False
    return gain > 0 or ours != theirs or one.rung.height < other.rung.height


def _costs(offer: Offer, wishes: Wishes) -> tuple[Decimal, Decimal, Decimal] | None:
    """Expected price, worst price, and time where it matters; None when a price is unknown."""
    if offer.expected_usd is None or offer.worst_usd is None:
        return None
    seconds = 0.0 if wishes.max_latency_s is None else offer.latency_s or 0.0
    return offer.expected_usd, offer.worst_usd, Decimal(seconds)


def _fits(chain: Sequence[Offer], wishes: Wishes, spent_usd: Decimal) -> bool:
    """Whether the whole chain is within cap and latency limit, should every rung be needed."""
    if wishes.max_latency_s is not None:
        seconds = sum(offer.latency_s or 0.0 for offer in chain)  # unknown ones are closed
        if seconds > wishes.max_latency_s:
            return False
    worst = _worst_usd(chain)
    if wishes.max_cost_usd is None:
        return True
    return worst is not None and spent_usd + worst <= wishes.max_cost_usd


def _worst_usd(chain: Sequence[Offer]) -> Decimal | None:
    known = [offer.worst_usd for offer in chain if offer.worst_usd is not None]
    return sum(known, Decimal(0)) if len(known) == len(chain) else None


def _follow(
    chain: Sequence[Offer], p_in_hand: float, wishes: Wishes, closed: tuple[tuple[Rung, str], ...]
) -> Plan:
    """Go along a chain, adding up chances and prices by how likely each rung is reached."""
    p_correct, p_reached, p_before = 0.0, 1.0, 0.0
    expected: Decimal | None = Decimal(0)
    for offer in chain:
        if expected is not None and offer.expected_usd is not None:
            expected += Decimal(p_reached) * offer.expected_usd
        else:
            expected = None
        p_nested = max(p_before, offer.chance_after(p_in_hand))
        p_here = (p_nested - p_before) / (1 - p_before) if p_before < 1 else 0.0
        p_correct += p_reached * p_here
        p_reached *= (1 - p_here) * offer.p_noticed
        p_before = p_nested
    return Plan(
        rungs=tuple(offer.rung for offer in chain),
        p_correct=p_correct,
        expected_usd=expected,
        worst_usd=_worst_usd(chain),
        net_usd=_net(p_correct, expected, wishes),
        closed=closed,
    )


def _keep(p_in_hand: float, wishes: Wishes, closed: tuple[tuple[Rung, str], ...]) -> Plan:
    nothing = Decimal(0)
    return Plan(
        rungs=(),
        p_correct=p_in_hand,
        expected_usd=nothing,
        worst_usd=nothing,
        net_usd=_net(p_in_hand, nothing, wishes),
        closed=closed,
    )


def _net(p_correct: float, expected_usd: Decimal | None, wishes: Wishes) -> Decimal | None:
    if wishes.value_usd is None or expected_usd is None:
        return None
    return wishes.value_usd * Decimal(min(p_correct, wishes.target)) - expected_usd


def _worthwhile(plans: Sequence[Plan], p_in_hand: float, wishes: Wishes) -> list[Plan]:
    """Without a stated value any gain would be worth any price: then it must reach `min_gain`."""
    if wishes.value_usd is not None:
        return list(plans)
    return [plan for plan in plans if plan.p_correct >= p_in_hand + wishes.min_gain]


def _merit(plan: Plan, wishes: Wishes) -> tuple[Decimal, Decimal, int, int]:
    """Sort key, higher is better. Ties go to the lower price, then fewer and lower rungs."""
    price = Decimal("Infinity") if plan.expected_usd is None else plan.expected_usd
    worth = (
        plan.net_usd if plan.net_usd is not None else Decimal(min(plan.p_correct, wishes.target))
    )
    return worth, -price, -len(plan.rungs), -sum(rung.height for rung in plan.rungs)


def _why(plan: Plan, p_in_hand: float, wishes: Wishes) -> str:
    if p_in_hand >= wishes.target:
        return f"P(correct) {p_in_hand:.2f} reaches the target {wishes.target:.2f}"
    value = "" if wishes.value_usd is None else f", a right answer worth ${wishes.value_usd:f}"
    stand = f"P(correct) {p_in_hand:.2f}, target {wishes.target:.2f}{value}"
    if not plan.rungs:
        listed = "; ".join(f"`{rung}`: {why}" for rung, why in plan.closed)
        return f"{stand}: no rung is worth its price" + (f" ({listed})" if listed else "")
    price = "an unknown price" if plan.expected_usd is None else f"about ${plan.expected_usd:.6f}"
    rungs = ", then ".join(f"`{rung}`" for rung in plan.rungs)
    return f"{stand}: {rungs} offers {plan.p_correct:.2f} for {price}"
