"""The purchase plan: what is promised of it, against every chain worked out by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import Offer, Plan, Rung, Wishes, choose_by_value, closed_because, plan_purchases
from tests.unit.test_router import chances, ladders, money, offer, wishes

seconds = st.none() | st.floats(min_value=0, max_value=60)
values = st.none() | money


@st.composite
def rich_ladders(draw: st.DrawFn) -> list[Offer]:
    """Offers with all that a calibration adds."""
    return [
        replace(
            each,
            p_fixes=draw(st.none() | chances),
            p_keeps=draw(st.none() | chances),
            p_noticed=draw(chances),
            latency_s=draw(seconds),
        )
        for each in draw(ladders())
    ]


rich_wishes = st.builds(
    lambda wish, value, limit: replace(wish, value_usd=value, max_latency_s=limit),
    wishes,
    values,
    seconds,
)


def worth(plan: Plan, wish: Wishes) -> Decimal:
    """The objective: net value where one is stated, else the chance up to the target."""
    if wish.value_usd is None:
        return Decimal(min(plan.p_correct, wish.target))
    assert plan.net_usd is not None
    return plan.net_usd


@given(chances, rich_ladders(), rich_wishes, money)
def test_a_plan_never_passes_ceiling_cap_or_time(
    p: float, offers: list[Offer], wish: Wishes, spent: Decimal
) -> None:
    plan = plan_purchases(Rung.LOCAL, p, offers, wish, spent)
    bought = [each for each in offers if each.rung in plan.rungs]
    assert list(plan.rungs) == sorted(plan.rungs, key=lambda rung: rung.height)
    for each in bought:
        assert closed_because(each, wish, spent) is None
        assert wish.ceiling.allows(each.rung)
    if wish.max_cost_usd is not None and bought:
        assert plan.worst_usd is not None
        assert spent + plan.worst_usd <= wish.max_cost_usd
    if wish.max_latency_s is not None:
        assert sum(each.latency_s or 0 for each in bought) <= wish.max_latency_s
    assert 0 <= plan.p_correct <= 1 + 1e-9


@given(chances, rich_ladders(), rich_wishes, money, money)
def test_more_budget_never_gives_a_worse_expected_value(
    p: float, offers: list[Offer], wish: Wishes, budget: Decimal, more: Decimal
) -> None:
    def best(cap: Decimal | None) -> Decimal:
        capped = replace(wish, max_cost_usd=cap)
        return worth(plan_purchases(Rung.LOCAL, p, offers, capped), capped)

    assert best(budget) <= best(budget + more) <= best(None)


@given(chances, rich_ladders(), rich_wishes)
def test_buying_is_never_worse_than_keeping(p: float, offers: list[Offer], wish: Wishes) -> None:
    keep = plan_purchases(Rung.LOCAL, p, [], wish)
    assert keep.rungs == () and keep.expected_usd == 0
    assert worth(plan_purchases(Rung.LOCAL, p, offers, wish), wish) >= worth(keep, wish)


@given(chances, rich_ladders(), rich_wishes)
def test_a_dominated_rung_is_never_bought(p: float, offers: list[Offer], wish: Wishes) -> None:
    wish = replace(wish, max_latency_s=None)
    plan = plan_purchases(Rung.LOCAL, p, offers, wish)
    for one, other in product(offers, repeat=2):
        known = None not in (one.expected_usd, one.worst_usd, other.expected_usd, other.worst_usd)
        if not known or closed_because(one, wish, Decimal(0)) is not None:
            continue
        better = one.chance_after(p) > other.chance_after(p)
        assert one.expected_usd is not None and other.expected_usd is not None
        assert one.worst_usd is not None and other.worst_usd is not None
        cheaper = one.expected_usd <= other.expected_usd and one.worst_usd <= other.worst_usd
        assert not (better and cheaper and other.rung in plan.rungs)


@given(chances, rich_ladders(), rich_wishes, money)
def test_the_first_step_of_the_plan_is_the_decision(
    p: float, offers: list[Offer], wish: Wishes, spent: Decimal
) -> None:
    plan = plan_purchases(Rung.LOCAL, p, offers, wish, spent)
    decision = choose_by_value(Rung.LOCAL, p, offers, wish, spent)
    assert decision.rung is (plan.rungs[0] if plan.rungs else None)
    assert decision.aim is (plan.rungs[-1] if plan.rungs else None)
    assert decision.closed == plan.closed
    assert "P(correct)" in decision.reason


def bought_in_a_world(chain: list[Offer], draw: random.Random) -> tuple[bool, Decimal]:
    """One question: nested rungs, wrong answers noticed by chance. (right, dollars)."""
    difficulty, spent = draw.random(), Decimal(0)
    right = False
    for each in chain:
        assert each.expected_usd is not None
        spent += each.expected_usd
        right = difficulty < each.p_correct
        if right or draw.random() >= each.p_noticed:
            break
    return right, spent


def test_expected_price_and_chance_are_those_of_the_simulated_world() -> None:
    chain = [
        replace(offer(Rung.EVIDENCE, 0.6, "0.01"), p_noticed=0.7),
        replace(offer(Rung.PASSAGES, 0.7, "0.03"), p_noticed=0.9),
        replace(offer(Rung.DOCUMENT, 0.9, "0.20"), p_noticed=0.5),
    ]
    wish = Wishes(target=1.0, ceiling=Rung.DOCUMENT, max_cost_usd=None, value_usd=Decimal("0.7"))
    plan = plan_purchases(Rung.LOCAL, 0.2, chain, wish)
    assert len(plan.rungs) > 1 and plan.expected_usd is not None
    followed = [each for each in chain if each.rung in plan.rungs]
    draw, n = random.Random(0), 40_000
    world = [bought_in_a_world(followed, draw) for _ in range(n)]
    assert sum(hit for hit, _ in world) / n == pytest.approx(plan.p_correct, abs=0.01)
    mean_usd = sum((usd for _, usd in world), Decimal(0)) / n
    assert float(mean_usd) == pytest.approx(float(plan.expected_usd), abs=0.002)


def wish_for(value: str | None, target: float = 1.0) -> Wishes:
    usd = None if value is None else Decimal(value)
    return Wishes(target=target, ceiling=Rung.DOCUMENT, max_cost_usd=None, value_usd=usd)


def test_hopeless_and_worthless_questions_are_not_bought() -> None:
    hopeless = replace(offer(Rung.DOCUMENT, 0.82, "0.10"), p_fixes=0.05, p_keeps=0.95)
    hopeful = replace(hopeless, p_fixes=0.8)
    assert plan_purchases(Rung.LOCAL, 0.3, [hopeless], wish_for("1")).rungs == ()
    assert plan_purchases(Rung.LOCAL, 0.3, [hopeful], wish_for("1")).rungs == (Rung.DOCUMENT,)
    assert plan_purchases(Rung.LOCAL, 0.3, [hopeful], wish_for("0.1")).rungs == ()
    assert plan_purchases(Rung.LOCAL, 0.99, [hopeful], wish_for("1")).rungs == ()


def test_a_cheap_rung_goes_first_when_its_failures_are_noticed() -> None:
    cheap, whole = offer(Rung.EVIDENCE, 0.7, "0.004"), offer(Rung.DOCUMENT, 0.9, "0.20")
    keen = replace(cheap, p_noticed=1.0)
    blind = replace(cheap, p_noticed=0.0)
    wish = wish_for("5")
    assert plan_purchases(Rung.LOCAL, 0.2, [keen, whole], wish).rungs == (
        Rung.EVIDENCE,
        Rung.DOCUMENT,
    )
    assert plan_purchases(Rung.LOCAL, 0.2, [blind, whole], wish).rungs == (Rung.DOCUMENT,)


def test_without_a_value_the_target_decides_and_then_the_price() -> None:
    offers = [offer(Rung.EVIDENCE, 0.8, "0.01"), offer(Rung.DOCUMENT, 0.9, "0.20")]
    near = plan_purchases(Rung.LOCAL, 0.3, offers, wish_for(None, target=0.75))
    assert near.rungs == (Rung.EVIDENCE,) and near.net_usd is None
    far = plan_purchases(Rung.LOCAL, 0.3, offers, wish_for(None, target=0.88))
    assert far.rungs == (Rung.DOCUMENT,)
    assert plan_purchases(Rung.LOCAL, 0.86, offers, wish_for(None)).rungs == ()  # min_gain
    assert plan_purchases(Rung.LOCAL, 0.8, offers, wish_for(None, target=0.75)).rungs == ()


def test_an_unknown_price_is_never_weighed_against_a_value() -> None:
    unpriced = replace(offer(Rung.DOCUMENT, 0.9, "0.2"), expected_usd=None, worst_usd=None)
    plan = plan_purchases(Rung.LOCAL, 0.3, [unpriced], wish_for("100"))
    assert plan.rungs == () and "price is unknown" in plan.closed[0][1]
    by_target = plan_purchases(Rung.LOCAL, 0.3, [unpriced], wish_for(None))
    assert by_target.rungs == (Rung.DOCUMENT,) and by_target.expected_usd is None
    assert "unknown price" in choose_by_value(Rung.LOCAL, 0.3, [unpriced], wish_for(None)).reason


def test_an_unknown_latency_closes_a_rung_under_a_limit() -> None:
    hurried = replace(wish_for("5"), max_latency_s=10.0)
    slow = replace(offer(Rung.DOCUMENT, 0.9, "0.2"), latency_s=30.0)
    untimed = offer(Rung.PASSAGES, 0.8, "0.1")
    quick = replace(offer(Rung.EVIDENCE, 0.7, "0.1"), latency_s=4.0)
    plan = plan_purchases(Rung.LOCAL, 0.2, [quick, untimed, slow], hurried)
    assert plan.rungs == (Rung.EVIDENCE,)
    assert dict(plan.closed)[Rung.PASSAGES].startswith("its latency is unknown")
    assert dict(plan.closed)[Rung.DOCUMENT].startswith("takes about 30.0 s")
