"""The router's rule: signals, prior, choice."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import (
    Offer,
    Rung,
    Signals,
    Wishes,
    choose,
    closed_because,
    is_hedged,
    margin_confidence,
    p_cloud,
    p_cloud_answer,
    p_local,
)

CLOUD_RUNGS = (Rung.EVIDENCE, Rung.PASSAGES, Rung.DOCUMENT)
GOOD = Signals(
    answered=True,
    verified=True,
    answer_in_quote=True,
    agreement=1.0,
    margin=8.0,
    coverage=1.0,
    n_answered=2,
    n_abstained=10,
    n_failed=0,
    hedged=False,
)

money = st.decimals(min_value=0, max_value=10, places=6)
chances = st.floats(min_value=0, max_value=1)
signals = st.builds(
    Signals,
    answered=st.booleans(),
    verified=st.booleans(),
    answer_in_quote=st.booleans(),
    agreement=chances,
    margin=st.none() | st.floats(min_value=-20, max_value=60),
    coverage=chances,
    n_answered=st.integers(0, 50),
    n_abstained=st.integers(0, 50),
    n_failed=st.integers(0, 50),
    hedged=st.booleans(),
)


@st.composite
def ladders(draw: st.DrawFn) -> list[Offer]:
    offers = []
    for rung in CLOUD_RUNGS:
        expected = draw(st.none() | money)
        extra = draw(money)
        offers.append(
            Offer(
                rung=rung,
                p_correct=draw(chances),
                prompt_tokens=draw(st.integers(0, 10**6)),
                expected_usd=expected,
                worst_usd=None if expected is None else expected + extra,
                impossible=draw(st.none() | st.just("nothing to send")),
            )
        )
    return offers


wishes = st.builds(
    Wishes, target=chances, ceiling=st.sampled_from(Rung), max_cost_usd=st.none() | money
)


@given(st.sampled_from(Rung), chances, ladders(), wishes, money)
def test_a_chosen_rung_is_open_higher_and_better(
    in_hand: Rung, p: float, offers: list[Offer], wish: Wishes, spent: Decimal
) -> None:
    decision = choose(in_hand, p, offers, wish, spent)
    if decision.rung is None:
        return
    offer = next(o for o in offers if o.rung is decision.rung)
    assert closed_because(offer, wish, spent) is None
    assert offer.rung.height > in_hand.height
    assert wish.ceiling.allows(offer.rung)
    assert offer.p_correct > p
    assert p < wish.target
    if wish.max_cost_usd is not None:
        assert offer.worst_usd is not None
        assert spent + offer.worst_usd <= wish.max_cost_usd


@given(chances, ladders(), wishes)
def test_under_the_local_ceiling_nothing_is_ever_bought(
    p: float, offers: list[Offer], wish: Wishes
) -> None:
    assert choose(Rung.LOCAL, p, offers, replace(wish, ceiling=Rung.LOCAL)).rung is None


@given(chances, ladders(), wishes, money, money)
def test_more_budget_never_gives_a_worse_chance(
    p: float, offers: list[Offer], wish: Wishes, budget: Decimal, more: Decimal
) -> None:
    def chance(cap: Decimal) -> float:
        aim = choose(Rung.LOCAL, p, offers, replace(wish, max_cost_usd=cap)).aim
        bought = next((o.p_correct for o in offers if o.rung is aim), p)
        return min(bought, wish.target)  # beyond the target, cheaper is better

    assert chance(budget + more) >= chance(budget)


def offer(rung: Rung, p: float, usd: str) -> Offer:
    price = Decimal(usd)
    return Offer(rung=rung, p_correct=p, prompt_tokens=1, expected_usd=price, worst_usd=price * 2)


def test_a_cheap_detour_is_taken_when_it_is_expected_to_save_money() -> None:
    wish = Wishes(target=0.75, ceiling=Rung.DOCUMENT, max_cost_usd=None)
    whole = offer(Rung.DOCUMENT, 0.82, "0.10")
    cheap, dear = offer(Rung.PASSAGES, 0.62, "0.01"), offer(Rung.PASSAGES, 0.62, "0.07")
    detour = choose(Rung.LOCAL, 0.3, [cheap, whole], wish)
    assert (detour.rung, detour.aim) == (Rung.PASSAGES, Rung.DOCUMENT)
    assert "may save" in detour.reason
    assert choose(Rung.LOCAL, 0.3, [dear, whole], wish).rung is Rung.DOCUMENT
    assert choose(Rung.PASSAGES, 0.3, [cheap, whole], wish).rung is Rung.DOCUMENT
    tight = replace(wish, max_cost_usd=Decimal("0.21"))
    assert choose(Rung.LOCAL, 0.3, [cheap, whole], tight).rung is Rung.DOCUMENT


@given(ladders(), wishes)
def test_a_cap_closes_rungs_of_unknown_price(offers: list[Offer], wish: Wishes) -> None:
    capped = replace(wish, max_cost_usd=Decimal(5))
    for offer in offers:
        if offer.worst_usd is None:
            assert closed_because(offer, capped, Decimal(0)) is not None


@given(signals)
def test_chances_are_probabilities(s: Signals) -> None:
    assert 0 <= p_local(s) <= 1
    assert all(0 <= p_cloud(rung, s) <= 1 for rung in CLOUD_RUNGS)


@given(signals)
def test_an_unverified_draft_never_reaches_the_default_target(s: Signals) -> None:
    assert p_local(replace(s, verified=False)) < 0.75


@given(signals)
def test_reading_less_never_raises_the_chance(s: Signals) -> None:
    assert p_local(replace(s, coverage=s.coverage / 2)) <= p_local(s)


def test_a_verified_agreed_answer_with_margin_stays_local() -> None:
    assert p_local(GOOD) >= 0.75


@pytest.mark.parametrize("rung", CLOUD_RUNGS)
def test_a_cloud_answer_without_verified_quote_is_worth_less(rung: Rung) -> None:
    unverified = p_cloud_answer(rung, abstained=False, verified=False)
    assert unverified < p_cloud_answer(rung, abstained=False, verified=True)


def test_evidence_without_any_verified_quote_is_hopeless() -> None:
    assert p_cloud(Rung.EVIDENCE, replace(GOOD, verified=False)) == 0


@pytest.mark.parametrize(
    ("answer", "hedged"),
    [
        ("New York", False),
        ("It is not specified in the excerpt", True),
        ("cannot be determined", True),
        ("The Supplier may be required to deliver", False),
        ("Naples", False),
    ],
)
def test_hedges(answer: str, hedged: bool) -> None:
    assert is_hedged(answer) is hedged


def test_margin_confidence_starts_at_one_half() -> None:
    assert margin_confidence(None) == margin_confidence(-3.0) == margin_confidence(0.0) == 0.5
    assert margin_confidence(5.0) > 0.99


def test_the_ladder_is_ordered() -> None:
    assert [rung.height for rung in Rung] == [0, 1, 2, 3]
    assert Rung.PASSAGES.allows(Rung.EVIDENCE) and not Rung.EVIDENCE.allows(Rung.PASSAGES)
    assert Rung.EVIDENCE.above == (Rung.PASSAGES, Rung.DOCUMENT)
